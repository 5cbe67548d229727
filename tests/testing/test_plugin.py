"""The plug-in, in test runs of their own as a user has them."""

import boto3
import pytest

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def apart(pytester, monkeypatch):
    """Neither the settings of this project nor somebody's AWS profile and proxy."""
    monkeypatch.setenv("AWS_PROFILE", "not-there")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    pytester.makeini("[pytest]\nfilterwarnings =\n    error\n")


def test_the_fixtures_are_there_without_any_configuration(pytester, monkeypatch):
    """A server, a key, a keyring and a count, through real boto3."""
    pytester.makepyfile(
        """
        import boto3
        from sqlalchemy import String, create_engine, insert, select
        from sqlalchemy import Column, Integer, MetaData, Table
        from sqlalchemy_kmsenv import Encrypted, Keyring, attach_keyrings

        def test_column(kms_server, kms_key, keyring):
            metadata = MetaData()
            table = Table("t", metadata, Column("id", Integer, primary_key=True),
                          Column("v", Encrypted(String)))
            attach_keyrings(metadata, default=keyring)
            engine = create_engine("sqlite://")
            with engine.begin() as connection:
                metadata.create_all(connection)
                with kms_server.expect(generate_data_key=1):
                    rows = [{"id": i, "v": "x"} for i in range(100)]
                    connection.execute(insert(table), rows)
                keyring.forget()
                with kms_server.expect(decrypt=1):
                    assert set(connection.scalars(select(table.c.v))) == {"x"}
            engine.dispose()

        def test_environment(kms_environment, kms_key, kms_server):
            with kms_server.expect(generate_data_key=1, describe_key=1):
                keyring = Keyring("aws-kms:///alias/kmsenv-test")
                client = boto3.client("kms")
                client.describe_key(KeyId=kms_key.arn)
                client.close()
                keyring.services[0].generate_data_key({})
        """
    )

    monkeypatch.delenv("AWS_PROFILE")
    # Somebody has used boto3 before, with credentials that the server does not know.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", boto3.session.Session("somebody", "else"))

    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_each_test_has_a_server_of_its_own(pytester):
    """No test sees the keys or the weather of another."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(2))
        def test_server(kms_server, number):
            assert kms_server.call("ListKeys")["Keys"] == []
            kms_server.create_key()
            kms_server.weather.fault("internal")
        """
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_a_conftest_goes_before_the_plug_in(pytester):
    """A project that has a fixture of that name keeps it."""
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture
        def keyring():
            return "mine"
        """
    )
    pytester.makepyfile("def test_mine(keyring): assert keyring == 'mine'")

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_run_that_asks_for_no_kms_imports_none(pytester):
    """Pytest loads the plug-in always; boto3 and a server are for whoever wants them."""
    pytester.makepyfile(
        """
        import sys

        def test_nothing():
            assert "sqlalchemy_kmsenv.testing.pytest_plugin" in sys.modules
            assert "sqlalchemy_kmsenv.testing.server" not in sys.modules
            assert "boto3" not in sys.modules
        """
    )

    pytester.runpytest_subprocess().assert_outcomes(passed=1)
