"""``LocalKms``: a key in a file, with the semantics of an AWS KMS key.

A wrapped data key is, in order:

| bytes | field |
|---|---|
| 1 | version, ``0x01`` |
| 16 | UUID of the key |
| 32 | id of the key material |
| 60 | nonce, ciphertext and tag of the data key under that material (AES-256-GCM) |

The first three fields, then the encoded encryption context, are associated data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from sqlalchemy_kmsenv.aead import AuthenticationError
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyStateError, WrongCellError
from sqlalchemy_kmsenv.kms import local_file
from sqlalchemy_kmsenv.kms.arguments import encode_context
from sqlalchemy_kmsenv.kms.local_file import LocalKey, Material
from sqlalchemy_kmsenv.kms.protocol import (
    DATA_KEY_BYTES,
    GeneratedDataKey,
    KeyDescription,
    ReWrappedDataKey,
    UnwrappedDataKey,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy_kmsenv.kms.protocol import EncryptionContext

_ARN_PREFIX = "arn:aws:kms:local:000000000000:key/"
_VERSION = b"\x01"
_MATERIAL_AT = 17
_SEALED_AT = 49
_WRAPPED_BYTES = _SEALED_AT + 12 + DATA_KEY_BYTES + 16


class LocalKms:
    """One KMS key in a file, for development, tests and small deployments.

    Whoever can read the file has every data key: it belongs on another disk
    than the database and its backups. POSIX only. Any number of threads and
    processes may use one file; each sees the others' rotations and switches.

    ``rewrap`` takes data keys of this key, and of those in ``rewraps_from``: what AWS
    does for keys of one account needs their files here.

    Raises:
        ConfigurationError: from the constructor and from every method, where the
            file is missing, malformed, a symbolic link, another user's, or has
            any permission for group or others.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, rewraps_from: Iterable[LocalKms] = ()
    ) -> None:
        """Open the key file at ``path``, which ``create`` made."""
        # Absolute, once: a later chdir must not lead to another file.
        self._path = _absolute(path)
        # Stamp and key in one attribute: replaced as one, so that reading needs no lock.
        self._loaded = local_file.read(self._path)
        self._arn = self._loaded[1].arn
        self._others = {other.resolve(): other for other in rewraps_from}

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, rewraps_from: Iterable[LocalKms] = ()
    ) -> LocalKms:
        """Make a new key in a new file of mode 0600, in a directory that exists.

        Raises:
            ConfigurationError: the file exists, or its directory does not.
        """
        path = _absolute(path)
        if not path.parent.is_dir():
            message = f"the directory of {path} does not exist: make it first, for its owner alone"
            raise ConfigurationError(message)
        with local_file.locked(path):
            local_file.create(path, f"{_ARN_PREFIX}{uuid4()}")
        return cls(path, rewraps_from=rewraps_from)

    def __repr__(self) -> str:
        return f"LocalKms({str(self._path)!r})"

    @property
    def material_ids(self) -> tuple[str, ...]:
        """Ids of all key material, oldest first; the last one wraps."""
        return tuple(material.id for material in self._current().materials)

    def resolve(self) -> str:
        """ARN of the key, also while it is disabled."""
        return self._current().arn

    def describe(self) -> KeyDescription:
        """State, and the id of the material that wraps."""
        key = self._current()
        state = "Enabled" if key.enabled else "Disabled"
        return KeyDescription(key.arn, state, key.materials[-1].id)

    def generate_data_key(self, context: EncryptionContext) -> GeneratedDataKey:
        """Make a 32-byte data key bound to ``context``.

        Raises:
            KeyStateError: the key is disabled.
        """
        key = self._enabled("GenerateDataKey")
        newest = key.materials[-1]
        header, associated_data = _header(key.arn, newest), encode_context(context)
        # Nothing below can raise: error reporters dump the locals of frames.
        plaintext = bytearray(os.urandom(DATA_KEY_BYTES))
        wrapped = header + newest.cipher.wrap(plaintext, header + associated_data)
        return GeneratedDataKey(plaintext, wrapped, key.arn, newest.id)

    def unwrap(self, wrapped: bytes, context: EncryptionContext, *, key_arn: str) -> bytearray:
        """The 32-byte data key inside ``wrapped``, whichever material wrapped it.

        Raises:
            WrongCellError: ``key_arn`` is another key, or ``wrapped`` is damaged
                or was not made by this key under exactly that context.
            KeyStateError: the key is disabled.
        """
        return UnwrappedDataKey(_unwrap(self._enabled("Decrypt"), wrapped, context, key_arn))

    def rewrap(
        self,
        wrapped: bytes,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
    ) -> ReWrappedDataKey:
        """Wrap the data key in ``wrapped`` under the newest material.

        Raises:
            WrongCellError: as for ``unwrap``; ``key_arn`` may also be a key of
                ``rewraps_from``.
            KeyStateError: one of the keys is disabled.
        """
        key = self._enabled("ReEncrypt")
        newest = key.materials[-1]
        header = _header(key.arn, newest)
        # Before the data key is unwrapped: a context that is refused raises here.
        target = header + encode_context(context if new_context is None else new_context)
        source = self._source("ReEncrypt", key_arn, key)
        sealed = newest.cipher.wrap(_unwrap(source, wrapped, context, key_arn), target)
        before = wrapped[_MATERIAL_AT:_SEALED_AT].hex()
        return ReWrappedDataKey(header + sealed, key.arn, newest.id, source_material_id=before)

    def would_generate(self, context: EncryptionContext) -> None:
        """Return where ``generate_data_key`` would work now; raise what it would."""
        encode_context(context)
        self._enabled("GenerateDataKey")

    def would_unwrap(
        self, context: EncryptionContext, *, key_arn: str, wrapped: bytes | None = None
    ) -> None:
        """Return where ``unwrap`` would work now; raise what it would."""
        _would_open(self._enabled("Decrypt"), context, key_arn, wrapped)

    def would_rewrap(
        self,
        context: EncryptionContext,
        *,
        key_arn: str,
        new_context: EncryptionContext | None = None,
        wrapped: bytes | None = None,
    ) -> None:
        """Return where ``rewrap`` would work now; raise what it would."""
        encode_context(context if new_context is None else new_context)
        source = self._source("ReEncrypt", key_arn, self._enabled("ReEncrypt"))
        _would_open(source, context, key_arn, wrapped)

    def rotate(self) -> str:
        """Add key material, which wraps from now on, and return its id.

        All older material stays, so that everything it wrapped still unwraps.

        Raises:
            KeyStateError: the key is disabled.
            KeyServiceUnavailableError: the file cannot be written; it is unchanged.
        """
        with local_file.locked(self._path):
            self._enabled("RotateKeyOnDemand")
            return local_file.rotate(self._path)

    def disable(self) -> None:
        """Refuse every use of the key, here and in all processes, until ``enable``."""
        self._switch(enabled=False)

    def enable(self) -> None:
        """Take back ``disable``."""
        self._switch(enabled=True)

    def _source(self, operation: str, key_arn: str, own: LocalKey) -> LocalKey:
        other = self._others.get(key_arn)
        return own if other is None else other._enabled(operation)  # noqa: SLF001  of this class

    def _switch(self, *, enabled: bool) -> None:
        with local_file.locked(self._path):
            self._current()
            local_file.switch(self._path, enabled=enabled)

    def _enabled(self, operation: str) -> LocalKey:
        key = self._current()
        if not key.enabled:
            message = f"{operation} is refused: {key.arn} is disabled; call enable() on {self!r}"
            raise KeyStateError(message, operation=operation, code="DisabledException")
        return key

    def _current(self) -> LocalKey:
        stamp, key = self._loaded
        if local_file.stamp(self._path) == stamp:
            return key
        loaded = local_file.read(self._path)
        if loaded[1].arn != self._arn:
            message = (
                f"{self._path} now holds {loaded[1].arn}, not {self._arn} which was opened: "
                "put the old file back, or open the new one as another LocalKms"
            )
            raise ConfigurationError(message)
        self._loaded = loaded
        return loaded[1]


def _absolute(path: str | os.PathLike[str]) -> Path:
    if "\0" in os.fspath(path):
        raise ConfigurationError(f"{path!r} names no file: a path holds no NUL; fix the path")
    return Path(path).absolute()


def _header(arn: str, material: Material) -> bytes:
    return _VERSION + UUID(arn.removeprefix(_ARN_PREFIX)).bytes + bytes.fromhex(material.id)


def _unwrap(key: LocalKey, wrapped: bytes, context: EncryptionContext, key_arn: str) -> bytes:
    associated_data = wrapped[:_SEALED_AT] + encode_context(context)
    material_id = wrapped[_MATERIAL_AT:_SEALED_AT].hex()
    material = next((m for m in key.materials if m.id == material_id), None)
    if key_arn != key.arn or len(wrapped) != _WRAPPED_BYTES or material is None:
        raise _wrong_cell(key.arn, key_arn)
    try:
        return material.cipher.unwrap(wrapped[_SEALED_AT:], associated_data)
    except AuthenticationError as error:
        raise _wrong_cell(key.arn, key_arn) from error


def _would_open(
    key: LocalKey, context: EncryptionContext, key_arn: str, wrapped: bytes | None
) -> None:
    if wrapped is not None:
        _unwrap(key, wrapped, context, key_arn)
    elif key_arn != key.arn:
        raise _wrong_cell(key.arn, key_arn)


def _wrong_cell(arn: str, asked: str) -> WrongCellError:
    # As AWS: a wrong context and a damaged blob are not told apart.
    if asked != arn:
        message = f"{arn} was asked for a data key of {asked}: name the key that wrapped it"
    else:
        message = (
            f"{arn} did not wrap this data key under this encryption context, or it is damaged: "
            "look whether the stored value was altered or moved"
        )
    return WrongCellError(message)
