"""The example program does what it shows, on every database."""

import re

import boto3
import pytest
from alembic import command
from click.testing import CliRunner
from moto.server import ThreadedMotoServer
from sqlalchemy import create_engine, inspect, text

from examples.locations import schema
from examples.locations.__main__ import main
from examples.locations.samples import SAMPLES, TRACKS, gpx
from examples.locations.tracks import TrackError, read_track
from sqlalchemy_kmsenv import LocalKms
from tests.conftest import on

TABLES = ("locations_pings", "locations_devices", "locations_alembic_version")
POINT = '<trkpt lat="48.2" lon="16.3"><time>2026-03-02T06:30:00Z</time></trkpt>'
WRONG = {
    "empty": "",
    "damaged": f"<gpx><trk><trkseg>{POINT}",
    "html": "<html><body>Sign in</body></html>",
    "point-less": '<gpx version="1.1"><trk><trkseg></trkseg></trk></gpx>',
    "timeless": f'<gpx><trk><trkseg>{POINT}<trkpt lat="1" lon="2"/></trkseg></trk></gpx>',
    "placeless": f"<gpx><trk><trkseg>{POINT.replace('48.2', 'nan')}</trkseg></trk></gpx>",
}


@pytest.fixture
def locations(engine):
    """The URL of a database without the example's tables, before and after."""
    drop(engine)
    yield engine.url.render_as_string(hide_password=False)
    drop(engine)


def drop(engine):
    """Remove the tables of the example."""
    with engine.begin() as connection:
        for name in TABLES:
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))


def run(*arguments, columns=100):
    """The result of ``demo`` with these arguments, on a terminal so wide."""
    environment = {"COLUMNS": str(columns), "TERM": "dumb"}
    return CliRunner().invoke(main, ["demo", *map(str, arguments)], env=environment)


def words(output):
    """The output without its line breaks."""
    return " ".join(output.split())


def test_demo_runs_twice_and_shows_the_refusal(locations, local_kms, tmp_path):
    """A second run finds tables and rows, which must not stop it."""
    uri = f"local://{tmp_path / 'keys.json'}"

    first = run("--database", locations, "--kms", uri)
    second = run("--database", locations, "--kms", uri)

    for result in (first, second):
        assert result.exit_code == 0, result.output
        assert "WrongCellError" in result.output
        assert "All 3,030 pings of before the rotation still read." in words(result.output)
    assert "Created by the migrations" in words(first.output)
    assert "There already" in words(second.output)
    assert "4 devices and 3,031 pings" in words(second.output)
    for result, number in ((first, 3_031), (second, 6_062)):
        assert f"{number - 1:,} positions re-wrapped, 1 at the target already" in words(
            result.output
        )
        assert f"{number:,} positions open." in words(result.output)


def test_demo_shows_a_bar_for_each_key_version_and_counts_calls_by_step(locations, tmp_path):
    """One KMS call for each of the four data keys re-wraps all 3,030 positions."""
    LocalKms.create(tmp_path / "keys.json")

    result = run("--database", locations, "--kms", f"local://{tmp_path / 'keys.json'}")

    lines = result.output.splitlines()
    states = [line.split()[-2] for line in lines if line.startswith("│") and "━" in line]
    # What is asked beforehand is not counted here: it depends on which rows come first.
    steps = [" ".join(line.split()[:-1]) for line in lines]
    assert states == ["older", "newest"]
    for step in ("Ingest 4 0 0", "Survey 0 0 0", "Re-wrap 0 0 4", "Verify 0 5 0"):
        assert step in steps


@on("sqlite")
def test_demo_runs_on_a_key_in_aws(locations, monkeypatch):
    """Rotation is left to AWS; all the rest is the same over HTTP."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("kms", region_name="eu-central-1", endpoint_url=endpoint)
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    client.close()

    uri = f"aws-kms:///{key_id}?region=eu-central-1&endpoint_url={endpoint}"
    result = run("--database", locations, "--kms", uri)
    server.stop()

    assert result.exit_code == 0, result.output
    assert "Skipped: rotating a key in AWS is up to AWS" in words(result.output)
    assert "3,030 at the target already: 0 KMS calls" in words(result.output)
    assert "3,030 positions open." in words(result.output)


def test_a_run_with_another_key_leaves_older_pings_alone(locations, tmp_path, monkeypatch):
    """The default key is new in each run, the server's rows are not."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    track = TRACKS / "harbour-boat.gpx"

    results = [run("--database", locations, track) for _ in range(2)]

    assert [result.exit_code for result in results] == [0, 0], results[-1].output
    assert "9 do not, and stay as they are" in words(results[1].output)
    assert "9 positions open." in words(results[1].output)


def test_migrations_and_models_agree(locations):
    """Autogenerate must not find a difference in an encrypted column."""
    engine = create_engine(locations)
    schema.upgrade(engine)

    command.check(schema.config_for(engine))
    engine.dispose()


def test_demo_needs_no_options_and_fits_a_narrow_terminal(tmp_path, monkeypatch):
    """It is the first thing that a visitor starts."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    result = run(columns=40)

    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 40
    assert re.search(r"\d+ KMS calls for 3,031 encrypted positions", words(result.output))


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_file_is_refused_in_words_and_nothing_is_stored(kind, tmp_path):
    """Half a track would be worse than none."""
    wrong = tmp_path / f"{kind}.gpx"
    wrong.write_text(WRONG[kind])
    url = f"sqlite:///{tmp_path / 'test.db'}"

    result = run("--database", url, TRACKS / "harbour-boat.gpx", wrong)

    assert result.exit_code == 2
    assert wrong.name in result.output
    assert "Traceback" not in result.output
    with pytest.raises(TrackError):
        read_track(wrong)
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_wrong_kms_uri_ends_with_words(tmp_path):
    """Errors of the library are for the operator to read."""
    database = f"sqlite:///{tmp_path / 'test.db'}"

    result = run("--database", database, "--kms", "local:///nowhere/keys.json")

    assert result.exit_code == 1
    assert "ConfigurationError" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.device_id)
def test_shipped_track_is_what_the_script_writes(sample):
    """Otherwise nobody could tell where the samples come from."""
    path = TRACKS / f"{sample.device_id}.gpx"

    assert path.read_text(encoding="utf-8") == gpx(sample)
    assert len(read_track(path).points) == sample.points
