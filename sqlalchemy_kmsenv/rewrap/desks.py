"""What a process needs to work on a column: made once for a job, shared by its threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

from sqlalchemy import Engine, MetaData, create_engine

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.columns import Encrypted
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding, build_binding
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.rewrap.checkpoints import TableCheckpoint
from sqlalchemy_kmsenv.rewrap.decoding import Convert
from sqlalchemy_kmsenv.rewrap.headers import HeaderReader
from sqlalchemy_kmsenv.rewrap.meter import Budget, MeteredKms
from sqlalchemy_kmsenv.rewrap.plans import FormerBinding, JobSource
from sqlalchemy_kmsenv.rewrap.proving import Prover
from sqlalchemy_kmsenv.rewrap.reencrypting import ReEncrypting
from sqlalchemy_kmsenv.rewrap.renewals import Renewals, renewals_engine
from sqlalchemy_kmsenv.rewrap.renewing import Renewer, RowRenewer
from sqlalchemy_kmsenv.rewrap.rewrapping import ReWrapping
from sqlalchemy_kmsenv.rewrap.surveying import Surveying
from sqlalchemy_kmsenv.rewrap.tables import RawTable
from sqlalchemy_kmsenv.rewrap.targets import Target, binding_named
from sqlalchemy_kmsenv.rewrap.verifying import Verifying
from sqlalchemy_kmsenv.rewrap.work import REENCRYPT, REWRAP, SURVEY, Work


@dataclass(frozen=True, slots=True)
class ColumnJob:
    """One kind of job on one column; may be sent to another process."""

    run: str
    """Unlike that of every other run, so that nothing is taken from an earlier one."""
    kind: str
    column: str
    target: Target
    batch_size: int
    dry_run: bool = False
    former: FormerBinding | None = None
    data_keys: frozenset[bytes] | None = None
    verify_material: bool = False
    convert: Convert | None = None
    kept: TableCheckpoint | None = None
    """Where the worker of a partition keeps how far it is."""
    secret: bytes = field(default=b"", repr=False)
    """By which the processes of a run, and those that go on with it, know their own entries."""


@dataclass(frozen=True, slots=True)
class Desk:
    """A job's work on one column, and where its rows are."""

    engine: Engine
    work: Work
    notes: frozenset[str] = frozenset()
    renewals: Renewals | None = None


class Workshop:
    """The desks of one process."""

    def __init__(self, engine: Engine, metadata: MetaData) -> None:
        self.engine = engine
        self.metadata = metadata
        self._lock = threading.Lock()
        self._desks: dict[tuple[str, str], Desk] = {}
        self.budgets = (Budget(), Budget())
        """Of KMS calls and of rows, for all threads of this process."""

    def __reduce__(self) -> str | tuple[object, ...]:
        raise ConfigurationError(
            "neither a Keyring nor an Engine can go to another process; give"
            " source=JobSource(metadata=..., url=...)"
        )

    def desk(self, job: ColumnJob) -> Desk:
        """The desk of a job, made when it is first asked for.

        Raises:
            ConfigurationError: the column cannot be worked on.
        """
        with self._lock:
            desk = self._desks.get((job.run, job.column))
            if desk is None:
                binding = binding_named(self.metadata, job.column)
                if job.kind == REWRAP:
                    desk = _rewrapping_desk(self.engine, binding, job)
                else:
                    desk = Desk(self.engine, _work(self.engine, binding, job))
                self._desks[job.run, job.column] = desk
            return desk

    def close_desks(self) -> None:
        """Forget what was made for jobs as they were before; no worker has begun."""
        self._desks.clear()


@lru_cache(maxsize=2)
def opened_source(source: JobSource, run: str) -> Workshop:  # noqa: ARG001  part of the cache's key
    """The workshop of a worker process; the same for all slices of a run."""
    url = source.url
    engine = create_engine(url) if isinstance(url, str) else url()
    return Workshop(engine, metadata_of(source.metadata))


def metadata_of(found: Any) -> MetaData:
    """The MetaData that an import path or an object leads to.

    Raises:
        ConfigurationError: it leads to none.
    """
    named = found
    if isinstance(found, str):
        found = imported(found)
    for _ in range(2):
        found = getattr(found, "metadata", found)
        if isinstance(found, MetaData):
            return found
        if callable(found):
            found = found()
    raise ConfigurationError(
        f"{named!r} leads to no MetaData, nor to anything that has one; give"
        ' "package.module:Base", or a function of a module that returns either'
    )


def imported(path: str) -> Any:
    """What an import path ``package.module:name`` leads to.

    Raises:
        ConfigurationError: nothing.
    """
    module, _, attribute = path.partition(":")
    if not module or not attribute:
        raise ConfigurationError(f'{path!r} is no import path like "package.module:Base"')
    found: Any = import_module(module)
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(f"{path!r}: {module} has no {attribute!r}")
        found = getattr(found, name)
    return found


def former_binding(binding: Binding, former: FormerBinding) -> Binding:
    """What the values of a column were bound to.

    Raises:
        ConfigurationError: they cannot have been.
    """
    now = binding.column.type
    if not isinstance(now, Encrypted):
        raise TypeError(now)
    bind = former.bind or now.bind
    identity = now.identity if former.identity is None else tuple(former.identity)
    was = Encrypted(
        now.inner,
        keyring=former.keyring or now.keyring,
        scope=now.scope if former.scope is None else former.scope,
        name=former.name or now.name,
        identity=None if bind == "column" else identity,
        bind=bind,
        pad_to=now.pad_to,
    )
    return build_binding(binding.column, was)


def _work(engine: Engine, binding: Binding, job: ColumnJob) -> Work:
    if job.kind == SURVEY:
        table = RawTable(engine, binding.column, [], defaults.REWRAP_PREFIX_BYTES)
        return Surveying(table, HeaderReader(engine, table))
    former = None if job.former is None else former_binding(binding, job.former)
    sections = [binding] if former is None else [binding, former]
    table = RawTable(engine, binding.column, sections, defaults.REWRAP_WHOLE_VALUE_BYTES)
    if job.kind != REENCRYPT:
        return Verifying(engine, table, binding, _metered(binding))
    return ReEncrypting(
        engine,
        table,
        binding,
        _metered(binding),
        former=None if former is None else (former, _metered(former)),
        data_keys=job.data_keys,
        convert=job.convert,
        dry_run=job.dry_run,
    )


def _rewrapping_desk(engine: Engine, binding: Binding, job: ColumnJob) -> Desk:
    sections = [] if binding.shares_data_keys else [binding]
    table = RawTable(engine, binding.column, sections, defaults.REWRAP_PREFIX_BYTES)
    keyring = _metered(binding)
    renewer: Renewer | RowRenewer = RowRenewer(keyring, job.target)
    renewals, note = None, ""
    if not (binding.scope_is_row or job.dry_run):
        where, note = renewals_engine(engine)
        renewals = Renewals(where, job.column, job.target, job.secret)
        renewer = Renewer(keyring, job.target, renewals)
    headers = HeaderReader(engine, table)
    prover = Prover(keyring, job.target) if job.verify_material else None
    work = ReWrapping(
        table,
        headers,
        binding,
        job.target,
        renewer=renewer,
        prover=prover,
        dry_run=job.dry_run,
    )
    return Desk(engine, work, frozenset({note} - {""}), renewals)


def _metered(binding: Binding) -> Keyring:
    return keyring_of(binding).twin(MeteredKms)
