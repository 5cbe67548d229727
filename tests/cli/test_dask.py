"""``--dask``: the workers of a cluster do the job of a command."""

from __future__ import annotations

import json
import warnings

import pytest

from tests.cli.conftest import start, words
from tests.conftest import on


@on("postgresql")
@pytest.mark.timeout(300)
def test_workers_of_a_cluster_rewrap_and_verify(world):
    """Models and keyrings are loaded by each worker; only their names travel."""
    world.store(range(100, 200))
    world.kms.rotate()
    values = world.read()
    with warnings.catch_warnings():
        # What the cluster's own modules and event loop warn of is not about this library.
        warnings.simplefilter("ignore")
        from distributed import LocalCluster

        with LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
        ) as cluster:
            options = ("--dask", cluster.scheduler_address, "--partitions", 4, "--json")
            results = [
                (process.communicate(timeout=60), process.returncode)
                for command in ("survey", "rewrap", "verify")
                for process in [start(command, *world.about, *options)]
            ]

    (surveyed, rewrapped, verified) = (json.loads(out) for (out, _), _ in results)
    assert [code for _, code in results] == [1, 0, 0], results
    assert [column["not_at_target"] for column in surveyed["columns"]] == [212, 212]
    assert [column["counts"]["rewritten"] for column in rewrapped["columns"]] == [212, 212]
    assert [column["counts"]["opened"] for column in verified["columns"]] == [212, 212]
    assert world.read() == values


@on("sqlite")
def test_missing_package_is_refused_with_what_to_install(world, tmp_path):
    """The extra is optional: most operators do without a cluster."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "distributed.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'distributed'\", name='distributed')\n"
    )

    about = (*world.about, "--dask", "tcp://127.0.0.1:1")
    process = start("rewrap", *about, path=tmp_path / "without")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "pip install 'sqlalchemy-kmsenv[dask]'" in words(err)
    assert "Traceback" not in err


@on("sqlite")
def test_scheduler_that_does_not_answer_is_refused(world):
    """A job must not wait for a cluster that was shut down."""
    process = start("rewrap", *world.about, "--dask", "tcp://127.0.0.1:1")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in words(err)
