"""The encryption context: the pairs that KMS authenticates, and that IAM and CloudTrail see.

Coarse on purpose (FORMAT.md, clause 7): table, column, scope columns and the
keyring's own pairs. It travels in plaintext; nothing sensitive belongs here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sqlalchemy_kmsenv.errors import ConfigurationError

TABLE = "kmsenv:table"
COLUMN = "kmsenv:column"
ROW = "kmsenv:row"

_RESERVED = ("kmsenv:", "aws:")


def check_pair_name(name: str, where: str) -> None:
    """Refuse a name that the library or AWS keeps for itself.

    Raises:
        ConfigurationError: empty, or begins with ``kmsenv:`` or ``aws:``.
    """
    if not name or name.lower().startswith(_RESERVED):
        raise ConfigurationError(
            f"{where}: {name!r} cannot name a pair of the encryption context; names that begin"
            " with 'kmsenv:' or 'aws:' are reserved, and an empty one is none"
        )


def alike(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that another one equals but for case, sorted.

    The condition keys of IAM are not told apart by case: one of both would have to have
    the value of the other, and no policy allows what the model does.
    """
    listed = list(names)
    seen = Counter(name.lower() for name in listed)
    return sorted(name for name in listed if seen[name.lower()] > 1)


def static_pairs(context: Mapping[str, str] | None) -> dict[str, str]:
    """A checked copy of a keyring's own pairs.

    Raises:
        ConfigurationError: a name is reserved, or differs from another by case alone, or
            a name or value is no text.
    """
    pairs = dict(context or {})
    for name, value in pairs.items():
        both: tuple[object, object] = (name, value)
        if not all(isinstance(text, str) for text in both):
            raise ConfigurationError("Keyring(context=...) takes text for names and values")
        check_pair_name(name, "Keyring(context=...)")
    twice = alike(pairs)
    if twice:
        raise ConfigurationError(
            f"Keyring(context=...) names {twice}, which IAM does not tell apart: rename all but"
            " one, so that they differ by more than case"
        )
    return pairs
