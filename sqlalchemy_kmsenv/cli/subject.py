"""What a command is about: the encrypted columns and their keyrings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
from sqlalchemy import MetaData

from sqlalchemy_kmsenv.cli.keyrings import GivenKeys, NamedUri, parse_pair
from sqlalchemy_kmsenv.cli.loading import load_metadata
from sqlalchemy_kmsenv.cli.refusals import Refusal
from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.columns.plan import encrypted_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models and keyrings that the options name; loaded by a call.

    It can be pickled: another process loads them by a call of its own.
    """

    path: str
    columns: tuple[str, ...] = ()
    """``table.column``; empty for all."""
    keys: GivenKeys = field(default_factory=GivenKeys)

    def __call__(self) -> MetaData:
        """The MetaData, with a keyring attached for every column that the command is about.

        Raises:
            Refusal: nothing to do, or not enough to do it.
            ConfigurationError: a column, a URI or a pair is refused.
        """
        metadata = load_metadata(self.path)
        bindings = self.bindings(metadata)
        used = tuple(dict.fromkeys(binding.keyring_name for binding in bindings.values()))
        self.keys.attach(metadata, used)
        for name, binding in bindings.items():
            if binding.keyring_name not in attached_keyrings(metadata):
                raise Refusal(_no_keyring(self.path, name, binding.keyring_name))
        return metadata

    def bindings(self, metadata: MetaData) -> dict[str, Binding]:
        """The encrypted columns that the command is about, by ``table.column``; at least one.

        Raises:
            Refusal: there is none, or not that which is asked for.
        """
        known = {
            f"{table.key}.{key}": binding
            for table in metadata.tables.values()
            for key, binding in encrypted_columns(table).items()
        }
        if not known:
            raise Refusal(_no_column(self.path, metadata))
        # Reports call a column by its key; its name in the database will do, too.
        keys = {f"{b.column.table.key}.{b.column.name}": name for name, b in known.items()}
        chosen = [keys.get(name, name) for name in self.columns] or list(known)
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise Refusal(
                f"{unknown[0]!r} is not an encrypted column of {self.path}; those are:"
                f" {', '.join(known)}"
            )
        return {name: known[name] for name in chosen}


def models_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say which columns and keyrings; the command takes them as ``models``."""

    @click.option(
        "--metadata",
        "models_path",
        metavar="MODULE:NAME",
        required=True,
        help="Where the models are, as package.module:Base.",
    )
    @click.option(
        "--column",
        "columns",
        metavar="TABLE.COLUMN",
        multiple=True,
        help="Only this encrypted column; repeatable.",
    )
    @click.option(
        "--keyring",
        "keyrings",
        metavar="[NAME=]URI",
        multiple=True,
        help="KMS key of a keyring, where the models attach none; repeatable.",
    )
    @click.option(
        "--unwrap-only",
        metavar="[NAME=]URI",
        multiple=True,
        help="A former KMS key of a keyring that is given with --keyring; repeatable.",
    )
    @click.option(
        "--context",
        metavar="NAME=VALUE",
        multiple=True,
        help="Pair of the encryption context of every --keyring; repeatable.",
    )
    @functools.wraps(command)
    def with_models(
        *,
        models_path: str,
        columns: tuple[str, ...],
        keyrings: tuple[str, ...],
        unwrap_only: tuple[str, ...],
        context: tuple[str, ...],
        to: tuple[str, ...] = (),
        **others: Any,
    ) -> Any:
        keys = GivenKeys(
            tuple(NamedUri.parse("--keyring", text) for text in keyrings),
            tuple(NamedUri.parse("--unwrap-only", text) for text in unwrap_only),
            tuple(map(parse_pair, context)),
            tuple(NamedUri.parse("--to", text) for text in to),
        )
        return command(models=Models(path=models_path, columns=columns, keys=keys), **others)

    return with_models


def _no_column(path: str, metadata: MetaData) -> str:
    if not metadata.tables:
        return (
            f"{path} has no table at all, hence no encrypted column: name a module that imports the"
            " models"
        )
    shown = ", ".join(sorted(metadata.tables))
    return (
        f"{path} has no encrypted column. It was looked for in {len(metadata.tables)} tables:"
        f" {shown}. Is this the MetaData of the models, and are all of them imported?"
    )


def _no_keyring(path: str, column: str, keyring: str) -> str:
    name = "" if keyring == "default" else f"{keyring}="
    return (
        f"{column} uses keyring {keyring!r}, and importing {path} attaches none of that name: name"
        " a module that calls attach_keyrings, a function that does and returns the MetaData, or"
        f" give --keyring {name}URI"
    )
