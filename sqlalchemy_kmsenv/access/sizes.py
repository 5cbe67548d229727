"""How long IAM lets a policy be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy_kmsenv.errors import ConfigurationError

# IAM user guide, "IAM and AWS STS quotas"; white space is not counted.
MANAGED_CHARACTERS = 6144
INLINE_CHARACTERS = 10240
"""All inline policies of a role together."""
MANAGED_POLICIES = 10
"""Managed policies of one role, unless the account's quota was raised."""

Statement = Mapping[str, Any]
Document = dict[str, Any]

VERSION = "2012-10-17"


def size_of(document: Mapping[str, Any]) -> int:
    """Characters as IAM counts them."""
    # A space inside of a name would count, but compact JSON is what is compared with the limit.
    # Escaped as where it is printed, since IAM takes Latin-1 alone: a letter may be six characters.
    return len(json.dumps(document, separators=(",", ":")))


def packed(statements: Sequence[Statement], limit: int) -> list[Document]:
    """As few documents as hold the statements in their order, each within ``limit``.

    Statements that allow are independent: a role with all of the documents may do
    what one document would have allowed.

    Raises:
        ConfigurationError: one statement alone is longer.
    """
    documents: list[Document] = []
    current: list[Statement] = []
    for statement in statements:
        if current and size_of(_document([*current, statement])) > limit:
            documents.append(_document(current))
            current = []
        current.append(statement)
        if size_of(_document(current)) > limit:
            raise ConfigurationError(
                f"one statement of the policy alone has more than the {limit:,} characters that"
                " IAM allows: give fewer scope values, and a role more"
            )
    return [*documents, _document(current)]


def _document(statements: Sequence[Statement]) -> Document:
    return {"Version": VERSION, "Statement": list(statements)}
