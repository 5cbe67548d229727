"""Which key service a URI opens, and what it refuses."""

import subprocess
import sys
from importlib import invalidate_caches
from pathlib import Path

import pytest

from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.kms import AwsKms, LocalKms, kms_from_uri

KEY_ARN = "arn:aws:kms:eu-central-1:111122223333:key/0d990263-018e-4e65-a703-eff731de951e"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key whose path needs escaping."""
    path = tmp_path / "my keys.json"
    LocalKms.create(path)
    return path


def install_plug_in(folder: Path, name: str, code: str, *, scheme: str = "vault") -> None:
    """What pip leaves behind for a package with an entry point."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{name}.py").write_text(code)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[sqlalchemy_kmsenv.kms]\n{scheme} = {name}:connect\n"
    )
    invalidate_caches()


def test_local_uri_opens_the_key_file(key_file):
    """The embedded default; a blank in a path is escaped as in any URI."""
    kms = kms_from_uri(f"local://{str(key_file).replace(' ', '%20')}")

    assert isinstance(kms, LocalKms)
    assert kms.resolve() == LocalKms(key_file).resolve()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("aws-kms:///alias/app/x", "AwsKms('alias/app/x', region=None, endpoint_url=None)"),
        (
            f"aws-kms:///{KEY_ARN}",
            f"AwsKms('{KEY_ARN}', region='eu-central-1', endpoint_url=None)",
        ),
        (
            "AWS-KMS:///alias/x?region=eu-west-1&endpoint_url=http://127.0.0.1:4566",
            "AwsKms('alias/x', region='eu-west-1', endpoint_url='http://127.0.0.1:4566')",
        ),
        (
            "aws-kms:///alias/x?endpoint_url=https%3A%2F%2Fkms.example",
            "AwsKms('alias/x', region=None, endpoint_url='https://kms.example')",
        ),
    ],
)
def test_aws_uri_names_key_region_and_endpoint(uri, shown):
    """Configuration is one string, and takes no call to understand."""
    kms = kms_from_uri(uri)

    assert isinstance(kms, AwsKms)
    assert repr(kms) == shown


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "alias/x",
        "/etc/keys.json",
        "local:/etc/keys.json",
        "local://keys.json",
        "local://./keys.json",
        "local:///",
        "local:///keys.json?mode=rw",
        "local:///keys.json#x",
        "local:///a\nb",
        "local:///a%00b",
        "local:///keys .json",
        "local:///kéys.json",
        "aws-kms:///",
        "aws-kms://alias/x",
        "aws-kms:alias/x",
        "aws-kms:///alias/x?region=",
        "aws-kms:///alias/x?region",
        "aws-kms:///alias/x?region=eu-west-1&region=eu-west-2",
        "aws-kms:///alias/x#top",
        "aws-kms://[/alias/x",
        "gcp-kms:///projects/x",
    ],
)
def test_malformed_uri_is_refused_and_a_right_one_shown(uri):
    """A typing mistake must not open another key, or none."""
    with pytest.raises(ConfigurationError, match=r"refused.* aws-kms:///alias/NAME"):
        kms_from_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "aws-kms://AKIAEXAMPLE:canary@host/alias/x",
        "aws-kms://canary@/alias/x",
        "vault://user:canary@host/key",
        "aws-kms://u:canary@[/alias/x",
        "aws-kms:///alias/x?aws_secret_access_key=canary",
        "aws-kms:///alias/x?endpoint_url=https://user:canary@host",
    ],
)
def test_credentials_in_a_uri_are_refused_and_not_repeated(uri):
    """URIs end up in logs, in shell histories and in error reports."""
    with pytest.raises(ConfigurationError) as caught:
        kms_from_uri(uri)

    assert "canary" not in repr(caught.value)
    assert caught.value.__context__ is None


def test_unknown_option_is_named_with_the_known_ones():
    """Ignored, a misspelt region would send the call to another Region."""
    with pytest.raises(ConfigurationError, match=r"\['regoin'\].*endpoint_url, .*region"):
        kms_from_uri("aws-kms:///alias/x?regoin=eu-west-1")


def test_other_schemes_come_from_installed_packages(tmp_path, key_file, monkeypatch):
    """A third party adds a key service without a change here."""
    code = (
        "from sqlalchemy_kmsenv.kms import LocalKms\n"
        "def connect(uri):\n"
        "    assert uri == 'vault://host/key'\n"
        f"    return LocalKms({str(key_file)!r})\n"
    )
    install_plug_in(tmp_path, "kmsenv_test_vault", code)
    monkeypatch.syspath_prepend(tmp_path)

    assert kms_from_uri("vault://host/key").resolve() == LocalKms(key_file).resolve()


def test_a_plug_in_cannot_take_over_a_built_in_scheme(tmp_path, key_file, monkeypatch):
    """Installing a package must not redirect data keys to it."""
    install_plug_in(tmp_path, "kmsenv_test_thief", "raise SystemExit", scheme="local")
    monkeypatch.syspath_prepend(tmp_path)

    kms = kms_from_uri(f"local://{str(key_file).replace(' ', '%20')}")

    assert isinstance(kms, LocalKms)


@pytest.mark.parametrize(
    ("module", "code", "reason"),
    [
        ("kmsenv_test_wrong", "def connect(uri):\n    return object()\n", "returned object"),
        ("kmsenv_test_absent", "", "cannot be loaded"),
        ("kmsenv_test_broken", "import kmsenv_test_nowhere", "cannot be loaded"),
        ("kmsenv_test_data", "connect = 5", "not callable"),
    ],
)
def test_a_faulty_plug_in_is_named(tmp_path, monkeypatch, module, code, reason):
    """The failure must show at start, and where, not at the first insert."""
    install_plug_in(tmp_path, module, code)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigurationError, match=rf"{module}:connect.*{reason}"):
        kms_from_uri("vault:///key")


def test_two_plug_ins_for_one_scheme_are_refused(tmp_path, monkeypatch):
    """Which one would get the data keys is not for chance to decide."""
    for name in ("kmsenv_test_one", "kmsenv_test_two"):
        install_plug_in(tmp_path / name, name, "")
        monkeypatch.syspath_prepend(tmp_path / name)

    with pytest.raises(ConfigurationError, match="several packages"):
        kms_from_uri("vault:///key")


def test_local_keys_need_no_boto3(key_file):
    """Its import takes longer than that of everything else together."""
    program = (
        "import sys; from sqlalchemy_kmsenv.kms import kms_from_uri; "
        "kms_from_uri(sys.argv[1]).generate_data_key({}); "
        "sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    )

    uri = f"local://{str(key_file).replace(' ', '%20')}"
    done = subprocess.run([sys.executable, "-c", program, uri], check=False)

    assert done.returncode == 0
