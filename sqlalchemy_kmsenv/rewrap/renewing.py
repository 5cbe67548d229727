"""What becomes of the wrapped data keys of a page: each data key gets one form at the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.envelope import InlineReference
from sqlalchemy_kmsenv.errors import (
    ConfigurationError,
    KeyServiceDeniedError,
    KeyStateError,
    KmsEnvError,
    WrongCellError,
)
from sqlalchemy_kmsenv.keyring import ContextPairs, Keyring
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.rewrap.renewals import Renewal, Renewals
from sqlalchemy_kmsenv.rewrap.targets import Target, check_route

_T = TypeVar("_T")

NOT_UNITED = (
    "some data keys stand wrapped in more than one way, so that reading them takes more Decrypt"
    " calls than there are data keys. Run the job once with a role that may kms:Decrypt, too: it"
    " proves that they are the same, and brings them together"
)


@dataclass(slots=True, eq=False)
class Wrapping:
    """A wrapped data key of some rows, and what is to stand in its place."""

    pairs: ContextPairs
    reference: InlineReference
    renewed: InlineReference | None = None
    """None where it stays."""
    error: KmsEnvError | None = None
    mended: InlineReference | None = None
    """What the KMS made of it, where the header names the target falsely."""

    def stays(self, target: Target) -> bool:
        """Whether it is at the target, as far as is known."""
        return self.mended is None and target.wraps(self.reference)


class Renewer:
    """Finds for each wrapped data key the one form that its data key has at the target.

    A form takes the place of another where both are proved to hold the same data key: this
    run got it from the KMS for exactly that other one, or the KMS unwrapped it and it holds
    what the header commits to. That a row has it proves nothing, nor does that the KMS
    re-wraps it: somebody may have put it beside the commitment of another data key.
    """

    def __init__(self, keyring: Keyring, target: Target, renewals: Renewals) -> None:
        self._keyring = keyring
        self._target = target
        self._renewals = renewals
        self._may_decrypt = True
        self.notes: set[str] = set()
        self._rewrapped: _Once[InlineReference] = FlightStore(defaults.REWRAP_CACHE_ENTRIES)
        self._confirmed: _Once[bool | None] = FlightStore(defaults.REWRAP_CACHE_ENTRIES)

    def settle(self, wrappings: Sequence[Wrapping]) -> None:
        """Fill in ``renewed`` or ``error``.

        Raises:
            StopJobError: the key service is away, or the job is to stop.
        """
        names = [self._renewals.name(w.pairs, w.reference.commitment) for w in wrappings]
        known = self._renewals.find(set(names))
        offered: dict[str, Renewal] = {}
        for name, each in zip(names, wrappings, strict=True):
            entry = self._decided(name, each, known.get(name))
            if entry is None:
                continue
            if name in known and name not in offered:
                self._renewals.replace(name, entry)
            else:
                offered[name] = entry
            known[name] = entry
        if not offered:
            return
        stand = self._renewals.offer(offered)
        for name, each in zip(names, wrappings, strict=True):
            # Another job came first with this data key.
            if name in offered and stand[name] != offered[name]:
                self._decided(name, each, stand[name])

    def _decided(self, name: str, each: Wrapping, first: Renewal | None) -> Renewal | None:
        """Settle one; what its data key's entry is to be, where that is not ``first``."""
        each.renewed = each.error = None
        try:
            return self._begun(name, each) if first is None else self._followed(name, each, first)
        except KmsEnvError as error:
            each.error = error
            return None

    def _begun(self, name: str, each: Wrapping) -> Renewal:
        if each.stays(self._target):
            return self._renewals.seen(each.reference)
        each.renewed = self._rewrap(each)
        return self._renewals.made(name, each.renewed, each.reference)

    def _followed(self, name: str, each: Wrapping, first: Renewal) -> Renewal | None:
        form = first.as_reference(each.reference.commitment)
        if form == each.reference and each.mended is None:
            return None
        if self._renewals.is_of(first, name, each.reference):
            each.renewed = form
            return None
        holds = self._holds(each.pairs, form)
        if holds:
            each.renewed = form
            return None
        if holds is None:
            self.notes.add(NOT_UNITED)
            each.renewed = None if each.stays(self._target) else self._own(each)
            return None
        # What stands first is false: it must not keep the others apart.
        if not each.stays(self._target) or self._holds(each.pairs, each.reference):
            return self._begun(name, each)
        return None

    def _own(self, each: Wrapping) -> InlineReference:
        """The form that this wrapped data key has for itself, whatever its data key has."""
        reference = each.reference
        name = self._renewals.name(each.pairs, reference.commitment, reference.wrapped)
        found = self._renewals.find([name]).get(name)
        if found is None:
            made = self._renewals.made(name, self._rewrap(each), reference)
            found = self._renewals.offer({name: made})[name]
        if not self._renewals.is_of(found, name, reference):
            found = self._renewals.made(name, self._rewrap(each), reference)
            self._renewals.replace(name, found)
        return found.as_reference(reference.commitment)

    def _rewrap(self, each: Wrapping) -> InlineReference:
        return _once(
            self._rewrapped,
            (each.pairs, each.reference),
            lambda: rewrapped(self._keyring, self._target, each),
        )

    def _holds(self, pairs: ContextPairs, reference: InlineReference) -> bool | None:
        """Whether it wraps the data key that it commits to; None where nobody may ask."""

        def ask() -> bool | None:
            if not self._may_decrypt:
                return None
            try:
                self._keyring.confirm(pairs, reference)
            except (WrongCellError, ConfigurationError):
                # Also of a KMS key that the keyring does not list, or no wrapped data key at all.
                return False
            except (KeyServiceDeniedError, KeyStateError):
                self._may_decrypt = False
                return None
            return True

        return _once(self._confirmed, (pairs, reference), ask)


class RowRenewer:
    """Where every row has an encryption context of its own, no two have a data key in common."""

    def __init__(self, keyring: Keyring, target: Target) -> None:
        self._keyring = keyring
        self._target = target
        self.notes: set[str] = set()

    def settle(self, wrappings: Sequence[Wrapping]) -> None:
        """As ``Renewer.settle``."""
        for each in wrappings:
            if each.stays(self._target):
                continue
            try:
                each.renewed = rewrapped(self._keyring, self._target, each)
            except KmsEnvError as error:
                each.error = error


def rewrapped(keyring: Keyring, target: Target, each: Wrapping) -> InlineReference:
    """What ReEncrypt makes of a wrapped data key.

    Raises:
        RouteError: it cannot.
        KmsEnvError: as ``Keyring.rewrap``.
    """
    if each.mended is not None:
        return each.mended
    source = keyring.key_arns().get(each.reference.fingerprint)
    if source is not None:
        check_route(source, target.key_arn)
    return keyring.rewrap(each.pairs, each.reference)


class Kept(Generic[_T]):
    """An answer of the KMS that holds no secret, and may be used as long as it is remembered."""

    __slots__ = ("value",)

    def __init__(self, value: _T) -> None:
        self.value = value

    def usable(self) -> bool:
        """True."""
        return True

    def drop(self) -> None:
        """Nothing to give up."""

    retire = reset_locks = drop


_Once = FlightStore[tuple[ContextPairs, InlineReference], Kept[_T]]


def _once(store: _Once[_T], key: tuple[ContextPairs, InlineReference], ask: Callable[[], _T]) -> _T:
    return store.get(key, lambda: Kept(ask())).value
