"""Which job this is, as JSON: what a checkpoint must agree with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.transactions import Options, schema_of
from sqlalchemy_kmsenv.rewrap.desks import ColumnJob, Workshop, former_binding
from sqlalchemy_kmsenv.rewrap.targets import binding_named
from sqlalchemy_kmsenv.rewrap.work import REENCRYPT, VERIFY


def identity_of(workshop: Workshop, jobs: Sequence[ColumnJob]) -> dict[str, Any]:
    """The kind of job, its database, columns, bindings and keys.

    Raises:
        KeyServiceError: the key service does not say which keys it has.
    """
    first = jobs[0]
    bindings = {job.column: binding_named(workshop.metadata, job.column) for job in jobs}
    targets = {job.column: [job.target.key_arn, job.target.hint.hex()] for job in jobs}
    opens = first.kind in (REENCRYPT, VERIFY)
    options: Options = workshop.engine.get_execution_options()
    identity = {
        "kind": first.kind,
        "database": _database(workshop.engine.url),
        "columns": sorted(bindings),
        "schemas": {name: schema_of(b.column.table, options) for name, b in bindings.items()},
        "bindings": {name: _bound(binding) for name, binding in bindings.items()},
        "targets": {} if first.kind == VERIFY else targets,
        "keys": {job.column: _keys(bindings[job.column], job) for job in jobs} if opens else {},
        "verify_material": first.verify_material,
        "convert": None if first.convert is None else _named(first.convert),
        "former": None if first.former is None else asdict(first.former),
        "data_keys": None if first.data_keys is None else sorted(k.hex() for k in first.data_keys),
    }
    # As it comes back from a checkpoint, where tuples have become lists.
    returned: dict[str, Any] = json.loads(json.dumps(identity))
    return returned


def _named(function: Any) -> str:
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{getattr(function, '__module__', '')}:{name}"


def _database(url: URL) -> list[Any]:
    """Where the rows are; neither who asks, nor with which driver or password."""
    backend, name = url.get_backend_name(), url.database
    if backend == "sqlite" and name and name != ":memory:" and not name.startswith("file:"):
        name = str(Path(name).resolve())
    return [backend, url.host or url.query.get("host"), url.port or url.query.get("port"), name]


def _bound(binding: Binding) -> dict[str, Any]:
    """What the values of a column are bound to; no identity with ``bind="column"``."""
    return {
        "name": [binding.table_name, binding.column_name],
        "identity": [each.column.name for each in binding.identity],
        "scope": "row" if binding.scope_is_row else [each.column.name for each in binding.scope],
    }


def _keys(binding: Binding, job: ColumnJob) -> list[str]:
    """The KMS keys that values are opened with: under others a value counts as failed."""
    used = [binding] if job.former is None else [binding, former_binding(binding, job.former)]
    return sorted({arn for each in used for arn in keyring_of(each).key_arns().values()})
