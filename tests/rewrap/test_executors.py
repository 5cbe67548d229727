"""Partitions on other threads and in other processes."""

import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
from sqlalchemy import insert, select

from sqlalchemy_kmsenv import ConfigurationError
from sqlalchemy_kmsenv.envelope import parse_header
from sqlalchemy_kmsenv.rewrap import JobSource, TableCheckpoint, reencrypt, rewrap, survey, verify
from sqlalchemy_kmsenv.rewrap.desks import Workshop, metadata_of
from tests.conftest import on
from tests.rewrap import dask_models
from tests.rewrap.conftest import Notes
from tests.rewrap.dask_models import Base, Parcel
from tests.servers import server_url

ROWS = 2000


@pytest.fixture
def parcels(engine, database, local_kms, monkeypatch):
    """A table whose models other processes can import, after a rotation of its key."""
    monkeypatch.setenv(dask_models.KEY_FILE, str(local_kms._path))
    dask_models.with_keyrings()
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": n, "text": f"text {n}"} for n in range(ROWS)]
        connection.execute(insert(Parcel), rows)
    local_kms.rotate()
    yield JobSource(metadata="tests.rewrap.dask_models:with_keyrings", url=server_url(database))
    Base.metadata.drop_all(engine)


def check(engine, report):
    """What each executor must lead to."""
    assert report.ok
    assert (report.counts.rows, report.counts.rewritten) == (ROWS, ROWS)
    assert survey(engine, Base.metadata).ok
    with engine.connect() as connection:
        assert dict(connection.execute(select(Parcel.id, Parcel.text)).all()) == {
            n: f"text {n}" for n in range(ROWS)
        }


@on("postgresql")
@pytest.mark.parametrize("kept", [None, TableCheckpoint(job="dask")])
def test_a_dask_cluster_of_two_processes_runs_the_partitions(
    engine, parcels, kept, checkpoint_table
):
    """Beyond one machine: no scheduler of our own, any executor does."""
    with warnings.catch_warnings():
        # What the cluster's own modules and event loop warn of is not about this library.
        warnings.simplefilter("ignore")
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=2,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                host="127.0.0.1",
            ) as cluster,
            Client(cluster) as client,
        ):
            seen: list[Any] = []
            report = rewrap(
                engine,
                Base.metadata,
                batch_size=100,
                executor=client.get_executor(),
                partitions=6,
                source=parcels,
                checkpoint=kept,
                on_progress=seen.append,
            )
            busy = client.run(lambda: __import__("os").getpid())

    check(engine, report)
    assert len(set(busy.values())) == 2
    # One call in each process at the most: they share no memory.
    assert 1 <= report.counts.kms_calls <= 2
    assert seen[-1].counts.rows == ROWS


@on("postgresql", "mariadb")
def test_a_pool_of_processes_runs_every_kind_of_job(engine, parcels):
    """The standard library's own executor pickles, too."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        options: dict[str, Any] = {"executor": pool, "partitions": 3, "source": parcels}
        before = survey(engine, Base.metadata, **options)
        report = rewrap(engine, Base.metadata, **options)
        again = reencrypt(engine, Base.metadata, **options)
        opened = verify(engine, Base.metadata, **options)

    assert before.columns[0].not_at_target == ROWS
    check(engine, report)
    assert again.counts.rewritten == ROWS
    assert opened.counts.opened == ROWS


@on("postgresql", "mariadb")
def test_processes_share_what_they_wrapped_anew(engine, parcels, local_kms):
    """Each process of a pool, or of a cluster, has a memory of its own."""
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        for _ in range(2):
            report = rewrap(
                engine, Base.metadata, executor=pool, partitions=6, batch_size=100, source=parcels
            )
            local_kms.rotate()
            assert report.ok

    with engine.connect() as connection:
        raw = connection.exec_driver_sql(f"SELECT text FROM {Parcel.__tablename__}").scalars()
        assert len({parse_header(bytes(each)).reference.wrapped for each in raw}) == 1


def test_threads_of_the_caller_need_no_source(notes: Notes):
    """They share the Keyring and the Engine, and one call for each data key."""
    notes.key.rotate()
    notes.kms.reset()

    with ThreadPoolExecutor(3) as pool, notes.kms.expect(rewrap=4):
        report = rewrap(notes.engine, notes.metadata, executor=pool, batch_size=4)

    assert report.ok
    assert report.counts.rewritten == 57


@on("sqlite")
def test_executor_that_is_shut_down_stops_the_job_with_a_report(notes: Notes):
    """Before the job, and from within: what was cancelled is never told to those who wait."""
    notes.key.rotate()
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    report = rewrap(notes.engine, notes.metadata, executor=closed)
    assert not report.ok
    assert "takes no work (RuntimeError: cannot schedule new" in (report.stopped or "")

    pool = ThreadPoolExecutor(1)
    report = rewrap(
        notes.engine, notes.metadata, executor=pool, partitions=8,
        on_progress=lambda _: pool.shutdown(wait=False, cancel_futures=True),
    )  # fmt: skip
    assert not report.ok
    assert "cancelled" in (report.stopped or "")
    assert report.counts.rewritten > 0

    with ThreadPoolExecutor(1) as pool:
        assert rewrap(notes.engine, notes.metadata, executor=pool).ok


def test_another_process_needs_a_source(notes: Notes):
    """A Keyring holds data keys, and is never pickled."""
    with ProcessPoolExecutor(1) as pool, pytest.raises(ConfigurationError, match="JobSource"):
        rewrap(notes.engine, notes.metadata, executor=pool)
    with pytest.raises(ConfigurationError, match="JobSource"):
        pickle.dumps(Workshop(notes.engine, notes.metadata))


def test_a_source_shows_no_password():
    """Executors log what they were given."""
    source = JobSource(metadata="a:b", url="postgresql://user:password@host/db")

    assert "password" not in repr(source)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("tests.rewrap.dask_models", "no import path"),
        ("tests.rewrap.dask_models:Absent", "has no 'Absent'"),
        (7, "7 leads to no MetaData"),
        (lambda: lambda: Base, "leads to no MetaData"),
        (lambda: 7, "leads to no MetaData"),
    ],
)
def test_a_source_that_leads_to_no_metadata_is_refused(given, words):
    """In words that a log of the cluster can be searched for."""
    with pytest.raises(ConfigurationError, match=words):
        metadata_of(given)


def test_a_source_may_name_a_base_a_metadata_or_a_function():
    """Whatever the application has."""
    assert metadata_of("tests.rewrap.dask_models:Base") is Base.metadata
    assert metadata_of("tests.rewrap.dask_models:Base.metadata") is Base.metadata
    assert metadata_of(Base) is Base.metadata
    assert metadata_of(lambda: Base) is Base.metadata
    assert metadata_of(lambda: Base.metadata) is Base.metadata
