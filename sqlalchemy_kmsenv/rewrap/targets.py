"""Where a column's envelopes should be, and the encrypted columns that a job is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.by_hand.places import binding_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.logical_names import VIEW
from sqlalchemy_kmsenv.columns.plan import encrypted_columns
from sqlalchemy_kmsenv.envelope import (
    UNKNOWN_MATERIAL,
    InlineReference,
    key_fingerprint,
    material_hint,
)
from sqlalchemy_kmsenv.errors import ConfigurationError
from sqlalchemy_kmsenv.keyring import Keyring
from sqlalchemy_kmsenv.rewrap.refusals import RouteError
from sqlalchemy_kmsenv.rewrap.reports import TargetReport


@dataclass(frozen=True, slots=True)
class Target:
    """The KMS key that wraps, and its current material."""

    key_arn: str
    fingerprint: bytes
    hint: bytes
    """Zeros where the key service does not tell: then the key alone decides."""
    state: str

    def has(self, fingerprint: bytes, hint: bytes) -> bool:
        """Whether an envelope with these is at the target."""
        same_material = self.hint in (UNKNOWN_MATERIAL, hint)
        return fingerprint == self.fingerprint and same_material

    def wraps(self, reference: InlineReference) -> bool:
        """Whether a data key is at the target."""
        return self.has(reference.fingerprint, reference.material_hint)

    def report(self) -> TargetReport:
        """The target as a report shows it."""
        hint = None if self.hint == UNKNOWN_MATERIAL else self.hint.hex()
        return TargetReport(self.key_arn, self.fingerprint.hex(), hint, self.state)


NO_TARGET = Target("", b"", UNKNOWN_MATERIAL, "unknown")
"""For jobs that bring nothing anywhere: whoever may only Decrypt need not be able to ask."""


def target_of(keyring: Keyring) -> Target:
    """What the key service says now (DescribeKey).

    Raises:
        KeyServiceError: it refused or failed.
    """
    found = keyring.describe()
    hint = material_hint(found.material_id)
    return Target(found.arn, key_fingerprint(found.arn), hint, found.state)


def check_route(source_arn: str, target_arn: str) -> None:
    """Refuse what ReEncrypt cannot do.

    Raises:
        RouteError: the keys are of two services, partitions or Regions.
    """
    source, target = (arn.split(":")[:4] for arn in (source_arn, target_arn))
    if source[0] == target[0] == "arn" and source != target:
        raise RouteError(
            f"no key service can re-wrap from {source_arn} to {target_arn}: they are of two"
            " services or Regions. Let reencrypt do it (kmsenv reencrypt), which opens the values"
            " and seals them anew; its role needs kms:Decrypt and kms:GenerateDataKey"
        )


def column_names(metadata: MetaData, columns: Sequence[Any] | None) -> tuple[str, ...]:
    """The encrypted columns that were named, or all, as ``binding_named`` takes them.

    Raises:
        ConfigurationError: there is none, or one that was named is none.
    """
    if columns is None:
        # What a view shows is stored once.
        tables = [each for each in metadata.sorted_tables if not each.info.get(VIEW)]
        bindings = [b for table in tables for b in encrypted_columns(table).values()]
    elif isinstance(columns, str):
        raise ConfigurationError(f"columns={columns!r} takes a list, such as [{columns!r}]")
    else:
        bindings = [_binding(metadata, each) for each in columns]
    if not bindings:
        known = ", ".join(metadata.tables) or "no table at all"
        raise ConfigurationError(
            f"there is no encrypted column to work on in this MetaData, which has {known}. Is it"
            " the one of the models, and are their modules imported?"
        )
    names = (f"{b.column.table.key}.{b.column.key}" for b in bindings)
    return tuple(dict.fromkeys(names))


def binding_named(metadata: MetaData, name: str) -> Binding:
    """The binding of the encrypted column ``"table.column"``.

    Raises:
        ConfigurationError: there is none of that name.
    """
    # A name may have dots in it, so that it cannot be taken apart.
    by_key: dict[str, Binding] = {}
    by_name: dict[str, Binding] = {}
    for table in metadata.sorted_tables:
        for key, binding in encrypted_columns(table).items():
            by_key[f"{table.key}.{key}"] = by_name[f"{table.key}.{binding.column.name}"] = binding
    found = by_key.get(name) or by_name.get(name)
    if found is None:
        raise ConfigurationError(
            f"{name!r} is not an encrypted column of this MetaData; these are:"
            f" {', '.join(by_key) or 'none'}"
        )
    return found


def _binding(metadata: MetaData, given: Any) -> Binding:
    if isinstance(given, str):
        return binding_named(metadata, given)
    binding = binding_of(given)
    if binding.column.table.metadata is not metadata:
        raise ConfigurationError(
            f"{binding.column} belongs to another MetaData than the one that was given"
        )
    return binding
