"""Whether headers are true: what the KMS says of data keys that they call at the target."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy_kmsenv import defaults
from sqlalchemy_kmsenv.envelope import UNKNOWN_MATERIAL, InlineReference
from sqlalchemy_kmsenv.errors import KmsEnvError, WrongCellError
from sqlalchemy_kmsenv.keyring import ContextPairs, Keyring
from sqlalchemy_kmsenv.keyring.flights import FlightStore
from sqlalchemy_kmsenv.rewrap.renewing import Kept, Wrapping
from sqlalchemy_kmsenv.rewrap.targets import Target


class Prover:
    """Asks the KMS about each distinct wrapped data key, without a right to Decrypt.

    Fingerprint and material hint of a header are not authenticated. ReEncrypt is: it takes
    the wrapped data key from the KMS key that is named to it alone, and tells its material.
    """

    def __init__(self, keyring: Keyring, target: Target) -> None:
        self._keyring = keyring
        self._target = target
        self._answers: FlightStore[
            tuple[ContextPairs, InlineReference], Kept[InlineReference | None]
        ] = FlightStore(defaults.REWRAP_CACHE_ENTRIES)

    def prove(self, each: Wrapping) -> None:
        """Fill in ``mended`` where the header is false, or ``error`` where nothing helps.

        Raises:
            StopJobError: the key service is away, or the job is to stop.
        """
        if not self._target.wraps(each.reference):
            return
        key = (each.pairs, each.reference)
        try:
            each.mended = self._answers.get(key, lambda: Kept(self._mended(*key))).value
        except KmsEnvError as error:
            each.error = error

    def _mended(self, pairs: ContextPairs, reference: InlineReference) -> InlineReference | None:
        try:
            renewed, source = self._keyring.rewrap_from(pairs, reference)
        except WrongCellError:
            return self._by_another_key(pairs, reference)
        return None if source in (UNKNOWN_MATERIAL, reference.material_hint) else renewed

    def _by_another_key(self, pairs: ContextPairs, reference: InlineReference) -> InlineReference:
        for fingerprint in self._keyring.key_arns():
            if fingerprint == reference.fingerprint:
                continue
            try:
                return self._keyring.rewrap(pairs, replace(reference, fingerprint=fingerprint))
            except WrongCellError:
                continue
        raise WrongCellError(
            "the header names the target, but no KMS key of the keyring has wrapped its data key"
            " under this encryption context: it was altered, or its key is not listed"
        )
