"""``kmsenv policy``: the least IAM policy for a role and these models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

import click
from sqlalchemy import MetaData

from sqlalchemy_kmsenv.access import (
    INLINE_CHARACTERS,
    MANAGED_CHARACTERS,
    Role,
    column_contexts,
    policies,
)
from sqlalchemy_kmsenv.access.sizes import MANAGED_POLICIES, Document
from sqlalchemy_kmsenv.cli.refusals import Refusal, in_words
from sqlalchemy_kmsenv.cli.scopes import parse_scope_values, scope_option
from sqlalchemy_kmsenv.cli.subject import Models, models_options
from sqlalchemy_kmsenv.columns.attached import attached_keyrings, keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.kms.aws_arguments import is_key_arn
from sqlalchemy_kmsenv.kms.protocol import ReplicatedKms

_KEY = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<arn>[^=]+)")
_LIMITS = {"managed": MANAGED_CHARACTERS, "inline": INLINE_CHARACTERS}


@click.command(short_help="Print the least IAM policy for a role and these models.")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    required=True,
    help="What the policy is for.",
)
@click.option(
    "--key",
    "keys",
    metavar="[NAME=]ARN",
    multiple=True,
    help=(
        "ARN of a KMS key of a keyring; repeatable, the one that wraps first, then former keys and"
        " replicas. Without it the keyrings are asked, which may need kms:DescribeKey."
    ),
)
@scope_option
@click.option(
    "--describe",
    is_flag=True,
    help="Allow kms:DescribeKey, for keyrings that name a key by alias or id.",
)
@click.option(
    "--limit",
    type=click.Choice(sorted(_LIMITS)),
    default="managed",
    show_default=True,
    help="How long a policy may be: 6,144 characters managed, 10,240 inline.",
)
@models_options
def policy(
    *,
    models: Models,
    role: str,
    keys: tuple[str, ...],
    scope_values: tuple[str, ...],
    describe: bool,
    limit: str,
) -> None:
    """Print the least IAM policy for ROLE and exactly these encrypted columns.

    One JSON document, or a list of them where IAM ends a policy before: attach each to
    the same role.
    """
    wanted = Role(role)
    with in_words():
        metadata = models()
        bindings = list(models.bindings(metadata).values())
        given = _given(keys)
        contexts = column_contexts(bindings, parse_scope_values(scope_values))
        documents = policies(
            wanted,
            contexts,
            {
                name: given.get(name) or _asked(metadata, name, Role(role))
                for name in _names(bindings)
            },
            describe=describe or _by_alias(bindings),
            limit=_LIMITS[limit],
        )
    _print(documents, limit)


def _given(keys: Iterable[str]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for text in keys:
        match = _KEY.fullmatch(text)
        if match is None or not is_key_arn(match["arn"]):
            raise Refusal(
                f"--key {text!r} is not like [NAME=]arn:aws:kms:REGION:ACCOUNT:key/ID; a policy"
                " cannot name a key by its alias, and is for no other key than the keyring's"
            )
        given.setdefault(match["name"] or "default", []).append(match["arn"])
    return given


def _asked(metadata: MetaData, name: str, role: Role) -> list[str]:
    keyring = attached_keyrings(metadata)[name]
    arns = list(keyring.key_arns().values())
    if role not in {Role.READER, Role.AUDITOR}:
        return arns
    replicated = [kms for kms in keyring.services if isinstance(kms, ReplicatedKms)]
    return arns + [replica.resolve() for kms in replicated for replica in kms.replicas()]


def _names(bindings: Sequence[Binding]) -> list[str]:
    return list(dict.fromkeys(binding.keyring_name for binding in bindings))


def _by_alias(bindings: Sequence[Binding]) -> bool:
    services = (kms for binding in bindings for kms in keyring_of(binding).services)
    return not all(getattr(kms, "named_by_arn", True) for kms in services)


def _print(documents: Sequence[Document], limit: str) -> None:
    shown = documents[0] if len(documents) == 1 else list(documents)
    # With other letters escaped: CreatePolicy takes a document of Latin-1 alone.
    click.echo(json.dumps(shown, indent=2))
    if len(documents) == 1:
        return
    words = f"{len(documents)} policies: IAM ends one at {_LIMITS[limit]:,} characters."
    if limit == "inline":
        words += " That is the sum of all inline policies of a role: use managed ones."
    elif len(documents) > MANAGED_POLICIES:
        words += (
            f" A role takes {MANAGED_POLICIES}, unless the account's quota is raised: use several"
            " roles, each with its own --column."
        )
    else:
        words += " Attach each to the same role."
    click.echo(words, err=True)
