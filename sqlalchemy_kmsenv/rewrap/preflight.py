"""What the key service would refuse, asked before the first row (DryRun)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.columns.attached import keyring_of
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.envelope import InlineReference, parse_header
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyServiceDeniedError,
    KeyServiceError,
    KeyStateError,
    KmsEnvError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import ContextPairs, Keyring
from sqlalchemy_kmsenv.rewrap.desks import ColumnJob, Workshop, former_binding
from sqlalchemy_kmsenv.rewrap.headers import HeaderReader
from sqlalchemy_kmsenv.rewrap.refusals import MissingPermission, PreflightError, RouteError
from sqlalchemy_kmsenv.rewrap.rewrapping import pairs_of_row
from sqlalchemy_kmsenv.rewrap.tables import RawTable, stored_bytes
from sqlalchemy_kmsenv.rewrap.targets import binding_named, check_route
from sqlalchemy_kmsenv.rewrap.work import REENCRYPT, REWRAP

_PERMISSIONS = {
    "ReEncrypt": "kms:ReEncryptFrom on the first and kms:ReEncryptTo on the second key",
    "Decrypt": "kms:Decrypt",
    "GenerateDataKey": "kms:GenerateDataKey",
}


@dataclass(slots=True)
class Answers:
    """What the key service said."""

    missing: list[MissingPermission] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, notes: Iterable[str]) -> None:
        """Add what was not noted before."""
        self.notes += [each for each in notes if each not in self.notes]

    def raise_if_missing(self) -> None:
        """Raise what was found.

        Raises:
            PreflightError: something is missing.
        """
        if not self.missing:
            return
        lines = [
            f"- {m.column}: {m.operation} on {m.key_arn} ({_PERMISSIONS[m.operation]}) with the"
            f" encryption context {dict(m.context)}: {m.reason}"
            for m in self.missing
        ]
        raise PreflightError(
            "the key service would refuse what this job needs, and nothing was done:\n"
            + "\n".join(lines),
            tuple(self.missing),
        )


@dataclass(frozen=True, slots=True)
class _Question:
    operation: str
    key_arn: str
    pairs: ContextPairs
    ask: Callable[[], None]


def ask_beforehand(workshop: Workshop, job: ColumnJob, answers: Answers) -> None:
    """Ask for the encryption contexts of the first page's rows, as many as 20 of them.

    What is refused for some contexts and not for others is those rows' matter, and a note.
    """
    questions: dict[tuple[str, str, ContextPairs], _Question] = {}
    for question in _questions(workshop, job):
        if len(questions) < defaults.REWRAP_PREFLIGHT_CONTEXTS:
            questions.setdefault((question.operation, question.key_arn, question.pairs), question)
    missing: list[MissingPermission] = []
    allowed: set[str] = set()
    for question in questions.values():
        try:
            question.ask()
            allowed.add(question.operation)
        except WrongCellError:
            continue  # A row's own matter: the job will report it.
        except (KeyServiceDeniedError, KeyStateError, RouteError) as error:
            missing.append(
                MissingPermission(
                    job.column, question.operation, question.key_arn, question.pairs, str(error)
                )
            )
        except (KeyServiceError, ConfigurationError) as error:
            answers.notes.append(
                f"{job.column}: whether {question.operation} would be allowed is not known: {error}"
            )
    answers.missing += [each for each in missing if each.operation not in allowed]
    answers.notes += [
        f"{each.column}: {each.operation} on {each.key_arn} is refused for the encryption context"
        f" {dict(each.context)}, and not for others: {each.reason}"
        for each in missing
        if each.operation in allowed
    ]


def _questions(workshop: Workshop, job: ColumnJob) -> Iterator[_Question]:
    binding = binding_named(workshop.metadata, job.column)
    was = binding if job.former is None else former_binding(binding, job.former)
    for pairs, was_pairs, reference in _sample(workshop, binding, was):
        keyring = keyring_of(binding)
        if job.kind == REWRAP:
            if job.target.wraps(reference):
                continue
            route = f"{_arn(keyring, reference)} to {job.target.key_arn}"
            ask = _bind(_would_rewrap, keyring, job, pairs, reference)
            yield _Question("ReEncrypt", route, pairs, ask)
            continue
        opening = keyring_of(was)
        arn = _arn(opening, reference)
        yield _Question("Decrypt", arn, was_pairs, _bind(opening.would_open, was_pairs, reference))
        if job.kind == REENCRYPT:
            target = job.target.key_arn
            yield _Question("GenerateDataKey", target, pairs, _bind(keyring.would_seal, pairs))


def _sample(
    workshop: Workshop, binding: Binding, was: Binding
) -> Iterator[tuple[ContextPairs, ContextPairs, InlineReference]]:
    """Context now, context before and data key of the rows of the first page."""
    table = RawTable(workshop.engine, binding.column, [binding, was], defaults.REWRAP_PREFIX_BYTES)
    headers = HeaderReader(workshop.engine, table)
    width = len(table.key)
    try:
        with workshop.engine.connect() as connection:
            rows = table.page(connection, None, None, defaults.REWRAP_BATCH_ROWS)
    except DBAPIError:
        # The job comes to the same page, and says so in its report.
        return
    seen: set[tuple[bytes, ...]] = set()
    size = 0
    for row in rows:
        if row[width] is None:
            continue
        ends = [
            each.pairs_key(stored_bytes(row[width + 2 + place]))
            for place, each in enumerate((binding, was))
        ]
        # Most rows of a page share their data key and context with one before.
        if (stored_bytes(row[width][:size]), *ends) in seen:
            continue
        try:
            start = headers.start(row)
            header = parse_header(start)
            size = header.size
            seen.add((start[:size], *ends))
            pairs = pairs_of_row(binding, row, width)
            yield pairs, pairs_of_row(was, row, width, 1), header.reference
        except (EnvelopeError, WrongCellError):
            continue


def _would_rewrap(
    keyring: Keyring, job: ColumnJob, pairs: ContextPairs, reference: InlineReference
) -> None:
    check_route(_arn(keyring, reference), job.target.key_arn)
    keyring.would_rewrap(pairs, reference)


def _arn(keyring: Keyring, reference: InlineReference) -> str:
    try:
        return keyring.key_arns().get(reference.fingerprint, "an unlisted key")
    except KmsEnvError:
        return "a key that cannot be resolved"


def _bind(ask: Callable[..., None], *given: object) -> Callable[[], None]:
    return lambda: ask(*given)
