"""The encryption context: the pairs that KMS authenticates, and that IAM and CloudTrail see.

Coarse on purpose (FORMAT.md, clause 7): table, column, scope columns and the
keyring's own pairs. It travels in plaintext; nothing sensitive belongs here.
"""

from __future__ import annotations

from collections.abc import Mapping

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


def static_pairs(context: Mapping[str, str] | None) -> dict[str, str]:
    """A checked copy of a keyring's own pairs.

    Raises:
        ConfigurationError: a name is reserved, or a name or value is no text.
    """
    pairs = dict(context or {})
    for name, value in pairs.items():
        both: tuple[object, object] = (name, value)
        if not all(isinstance(text, str) for text in both):
            raise ConfigurationError("Keyring(context=...) takes text for names and values")
        check_pair_name(name, "Keyring(context=...)")
    return pairs
