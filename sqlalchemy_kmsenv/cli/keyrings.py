"""Keyrings that are named on the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import MetaData

from sqlalchemy_kmsenv.cli.refusals import Refusal
from sqlalchemy_kmsenv.columns import attach_keyrings
from sqlalchemy_kmsenv.columns.attached import attached_keyrings
from sqlalchemy_kmsenv.keyring import Keyring

DEFAULT = "default"

# A name has no colon, slash or hyphen, so that the = of a URI's query is never taken for it.
_NAMED = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<uri>[A-Za-z][A-Za-z0-9+.-]*://.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NamedUri:
    """``[NAME=]URI``: a KMS key for one keyring."""

    name: str | None
    uri: str

    @classmethod
    def parse(cls, option: str, text: str) -> NamedUri:
        """What was given for ``option``.

        Raises:
            Refusal: it is not like that.
        """
        match = _NAMED.fullmatch(text)
        if match is None:
            # The text is not repeated: a URI that is refused may hold a secret.
            raise Refusal(
                f"{option} takes [NAME=]URI, such as aws-kms:///alias/location?region=eu-west-1 or"
                " billing=local:///srv/keys.json"
            )
        return cls(match["name"], match["uri"])


@dataclass(frozen=True, slots=True)
class GivenKeys:
    """What the command line says of keyrings."""

    keyrings: tuple[NamedUri, ...] = ()
    unwrap_only: tuple[NamedUri, ...] = ()
    context: tuple[tuple[str, str], ...] = ()
    """Pairs of every keyring that the command line names."""
    to: tuple[NamedUri, ...] = ()

    def attach(self, metadata: MetaData, used: Sequence[str]) -> None:
        """Attach the keyrings, and let those of ``to`` wrap with their new KMS key.

        ``used`` are the names of the keyrings of the columns that the command is about.

        Raises:
            Refusal: an option is about a keyring that does not exist.
            ConfigurationError: a URI or a pair is refused.
        """
        given = self._keyrings()
        attach_keyrings(metadata, **given)
        for target in self.to:
            name = target.name or _only(used)
            keyring = attached_keyrings(metadata).get(name)
            if keyring is None:
                raise Refusal(f"--to is about keyring {name!r}, and none of that name is attached")
            attach_keyrings(metadata, **{name: keyring.moving_to(target.uri)})

    def _keyrings(self) -> dict[str, Keyring]:
        wrapping = _by_name("--keyring", self.keyrings)
        former: dict[str, list[str]] = {}
        for named in self.unwrap_only:
            former.setdefault(named.name or DEFAULT, []).append(named.uri)
        alone = sorted(former.keys() - wrapping.keys())
        if alone:
            raise Refusal(f"--unwrap-only for keyring {alone[0]!r} needs a --keyring of that name")
        if self.context and not wrapping:
            raise Refusal("--context is for keyrings that are given with --keyring")
        return {
            name: Keyring(uri, unwrap_only=former.get(name, ()), context=dict(self.context))
            for name, uri in wrapping.items()
        }


def parse_pair(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of an encryption context.

    Raises:
        Refusal: there is no equals sign, or no name.
    """
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise Refusal(f"--context {text!r} is not like NAME=VALUE")
    return name, value


def _by_name(option: str, given: Sequence[NamedUri]) -> dict[str, str]:
    uris: dict[str, str] = {}
    for named in given:
        name = named.name or DEFAULT
        if name in uris:
            raise Refusal(f"{option} is given twice for keyring {name!r}")
        uris[name] = named.uri
    return uris


def _only(used: Sequence[str]) -> str:
    if len(used) != 1:
        raise Refusal(
            f"the columns use the keyrings {', '.join(used)}; say which with --to NAME=URI, or"
            " choose columns of one of them with --column"
        )
    return used[0]
