"""What OpenTelemetry is given, and that nothing is missing where it is absent."""

import inspect
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from opentelemetry import metrics

from sqlalchemy_kmsenv.version import VERSION

ROOT = Path(__file__).parent.parent.parent

WITHOUT_OPENTELEMETRY = """
import sys
sys.modules["opentelemetry"] = None
from sqlalchemy_kmsenv import Keyring, LocalKms
from sqlalchemy_kmsenv.keyring import telemetry
keyring = Keyring(LocalKms.create(sys.argv[1]))
keyring.seal_many((), 2, b"", [b"i1:"], [b"x"])
print(telemetry.AVAILABLE, keyring.stats().values_sealed)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Everything that the scenario exported."""
    command = [sys.executable, "-m", "tests.keyring.telemetry_scenario"]
    directory = tmp_path_factory.mktemp("telemetry")
    done = subprocess.run(
        [*command, str(directory)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def points(exported, name):
    """Attributes and value of each data point of a metric; the number of calls of a histogram."""
    (scope,) = exported["metrics"]["resource_metrics"][0]["scope_metrics"]
    metric = next(metric for metric in scope["metrics"] if metric["name"] == name)
    return {
        tuple(sorted(point["attributes"].items())): point.get("value", point.get("count"))
        for point in metric["data"]["data_points"]
        if point["attributes"]["kmsenv.keyring"] == "default"
    }


def test_each_call_to_the_kms_is_a_span_with_its_outcome(exported):
    """A slow or failing KMS is seen in the trace of the request that waited for it."""
    spans = exported["spans"]

    assert [(span["name"], span["status"]["status_code"]) for span in spans] == [
        ("kmsenv.kms.generate", "UNSET"),
        ("kmsenv.kms.unwrap", "UNSET"),
        ("kmsenv.kms.unwrap", "ERROR"),
        ("kmsenv.kms.generate", "UNSET"),
    ]
    assert {span["kind"] for span in spans} == {"SpanKind.CLIENT"}
    assert {span["attributes"]["kmsenv.keyring"] for span in spans} == {"default"}
    assert spans[2]["attributes"]["error.type"] == "KeyStateError"
    assert spans[0]["attributes"]["kmsenv.key_arn"].startswith("arn:aws:kms:local:")


def test_calls_are_measured_by_operation_and_outcome(exported):
    """What an alert is made of."""
    calls = points(exported, "kmsenv.kms.duration")

    seen = {(dict(k)["kmsenv.operation"], dict(k)["kmsenv.outcome"]): n for k, n in calls.items()}
    assert seen == {("generate", "ok"): 2, ("unwrap", "ok"): 1, ("unwrap", "KeyStateError"): 1}


@pytest.mark.skipif(
    "explicit_bucket_boundaries_advisory"
    not in inspect.signature(metrics.Meter.create_histogram).parameters,
    reason="an older opentelemetry-api takes boundaries in a view alone",
)
def test_durations_are_told_apart(exported):
    """They are seconds: with the default boundaries every call would be in the first bucket."""
    (scope,) = exported["metrics"]["resource_metrics"][0]["scope_metrics"]
    metric = next(each for each in scope["metrics"] if each["name"] == "kmsenv.kms.duration")
    bounds = metric["data"]["data_points"][0]["explicit_bounds"]

    assert (bounds[0], bounds[-1]) == (0.005, 15)
    assert len([bound for bound in bounds if bound < 0.3]) >= 6


def test_numbers_of_the_keyring_are_collected(exported):
    """They cost nothing until somebody asks."""
    named = {
        # Those of a keyring that is gone by now are in the sums: counters never go down.
        "kmsenv.data_keys.made": 2,
        "kmsenv.values.sealed": 5,
        "kmsenv.data_keys.evictions": 0,
        "kmsenv.values.opened": 3,
    }
    for name, number in named.items():
        assert points(exported, name) == {(("kmsenv.keyring", "default"),): number}, name
    (kind,) = points(exported, "kmsenv.values.refused")
    assert dict(kind)["kmsenv.refusal"] == "other row or damaged"
    lookups = points(exported, "kmsenv.data_keys.lookups")
    by_use = {(dict(k)["kmsenv.use"], dict(k)["kmsenv.result"]): n for k, n in lookups.items()}
    assert by_use[("seal", "miss")] == 2
    assert by_use[("open", "miss")] == 2
    assert sum(points(exported, "kmsenv.data_keys.held").values()) == 0


def test_scope_names_the_package_and_its_version(exported):
    """Dashboards filter by it."""
    (scope,) = exported["metrics"]["resource_metrics"][0]["scope_metrics"]

    assert (scope["scope"]["name"], scope["scope"]["version"]) == ("sqlalchemy_kmsenv", VERSION)
    assert version("sqlalchemy-kmsenv") == VERSION


def test_neither_value_nor_envelope_is_exported(exported):
    """Telemetry goes to places that may not see them."""
    shown = json.dumps([exported["spans"], exported["metrics"]])

    assert "canary" not in shown
    assert exported["envelope"][100:200] not in shown
    assert "pings" not in shown


def test_everything_works_without_opentelemetry(tmp_path):
    """It is optional."""
    command = [sys.executable, "-c", WITHOUT_OPENTELEMETRY, str(tmp_path / "keys.json")]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    assert done.stdout.split() == ["False", "1"]
