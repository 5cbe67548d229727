"""Stored values to payloads, with what is the matter where one does not open."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy_kmsenv.aead import AuthenticationError, ValueCipher
from sqlalchemy_kmsenv.by_hand import Finding
from sqlalchemy_kmsenv.cell import associated_prefix
from sqlalchemy_kmsenv.columns.binding import Binding
from sqlalchemy_kmsenv.envelope import Header, InlineReference, parse_header
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    EnvelopeError,
    KeyServiceError,
    KmsEnvError,
    RevokedKeyError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import CommitmentError, ContextPairs, Keyring, RefusalKind
from sqlalchemy_kmsenv.keyring.revocations import UnreadListError

_MAX_REFUSED = 10_000


@dataclass(frozen=True, slots=True)
class Opened:
    """A value that authenticates where it was found."""

    header: Header
    payload: bytes


class UnopenedError(Exception):
    """A value does not open; ``error`` says why, and may be shown."""

    def __init__(self, error: KmsEnvError, finding: Finding) -> None:
        super().__init__(finding)
        self.error = error
        self.finding = finding


class PayloadOpener:
    """Opens the values of one column as one binding has them, without decoding them."""

    def __init__(self, binding: Binding, keyring: Keyring) -> None:
        self._binding = binding
        self._keyring = keyring
        self._prefixes: dict[int, bytes] = {}
        # A data key of another context is refused by the KMS each time: once is enough.
        self._refused: dict[tuple[ContextPairs, InlineReference], UnopenedError] = {}

    def open(self, section: bytes, stored: bytes) -> Opened:
        """The payload of a value, found where ``section`` says.

        Raises:
            UnopenedError: it does not open there.
            StopJobError: the key service is away, or the job is to stop.
            AuditError: the audit hook failed; the value was not opened.
        """
        try:
            header = parse_header(stored)
        except EnvelopeError as error:
            raise UnopenedError(error, Finding.NO_ENVELOPE) from None
        try:
            pairs = self._binding.pairs(section)
        except (ValueError, IndexError):
            raise self._foreign(section) from None
        cipher = None
        while cipher is None:
            cipher = self._key(pairs, header.reference)
        prefix = self._prefix(header.value_type)
        try:
            return Opened(header, cipher.open(stored, header.size, prefix + section))
        except AuthenticationError:
            raise self._foreign(section) from None

    def _key(self, pairs: ContextPairs, reference: InlineReference) -> ValueCipher | None:
        known = self._refused.get((pairs, reference))
        if known is not None:
            raise known
        try:
            key = self._keyring.opening_key(pairs, reference)
        except RevokedKeyError as error:
            refusal = UnopenedError(error, Finding.REVOKED_KEY)
        except CommitmentError as error:
            refusal = UnopenedError(error, Finding.DAMAGED_KEY)
        except WrongCellError as error:
            refusal = UnopenedError(error, Finding.OTHER_KEY_CONTEXT)
        except UnreadListError as error:
            raise UnopenedError(error, Finding.KEY_SERVICE) from error
        except ConfigurationError as error:
            refusal = UnopenedError(error, Finding.OTHER_KMS_KEY)
        except KeyServiceError as error:
            raise UnopenedError(error, Finding.KEY_SERVICE) from error
        else:
            # Tells the audit hook, once a page.
            self._keyring.clock_for_opening(pairs, reference)
            return key.cipher
        if len(self._refused) >= _MAX_REFUSED:
            self._refused.clear()
        self._refused[pairs, reference] = refusal
        raise refusal

    def tell_refusal(self, section: bytes, stored: bytes, unopened: UnopenedError) -> None:
        """Count, and tell the audit hook of, a value that opens nowhere that it may be."""
        if unopened.finding is Finding.KEY_SERVICE:
            return
        kind = RefusalKind(unopened.finding)
        try:
            pairs, reference = self._binding.pairs(section), parse_header(stored).reference
        except (EnvelopeError, ValueError, IndexError):
            self._keyring.refused(self._binding.column_pairs, None, unopened.error, kind)
            return
        self._keyring.refused(pairs, reference, unopened.error, kind)

    def _prefix(self, value_type: int) -> bytes:
        prefix = self._prefixes.get(value_type)
        if prefix is None:
            prefix = self._prefixes[value_type] = prefix_of(self._binding, value_type)
        return prefix

    def _foreign(self, section: bytes) -> UnopenedError:
        cell = self._binding.cell(section)
        error = WrongCellError(
            f"{cell}: the stored value does not authenticate here. It was altered, or copied from"
            " another row; explain() tells more",
            cell=cell,
        )
        return UnopenedError(error, Finding.OTHER_ROW_OR_DAMAGED)


def prefix_of(binding: Binding, value_type: int) -> bytes:
    """What the associated data of a column's values of one type begins with."""
    return associated_prefix(
        binding.table_name,
        binding.column_name,
        len(binding.identity),
        len(binding.scope),
        value_type,
    )
