"""The key file of ``LocalKms``: its JSON, its permissions, and who may write it when.

A file is read without a lock, since it only ever appears and changes as a whole;
writers exclude one another by ``flock`` on ``<path>.lock``. POSIX only.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.aead import WrappingCipher
from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceUnavailableError
from sqlalchemy_kmsenv.kms.arguments import is_material_id
from sqlalchemy_kmsenv.kms.protocol import DATA_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_FORMAT = 1
_PRIVATE_MODE = 0o600
_ARN = re.compile(
    r"arn:aws:kms:local:000000000000:key/"
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)

Stamp = tuple[int, int, int, int]
"""Inode, size, and times of the last change of content and of permissions."""


@dataclass(frozen=True, slots=True)
class Material:
    """One version of the key."""

    id: str
    """64 lower-case hexadecimal digits."""
    cipher: WrappingCipher


@dataclass(frozen=True, slots=True)
class LocalKey:
    """All that a key file holds; its bytes of keys are in the ciphers alone."""

    arn: str
    enabled: bool
    materials: tuple[Material, ...]
    """Oldest first, never empty."""


def read(path: Path) -> tuple[Stamp, LocalKey]:
    """The key in the file, and the stamp it was read under.

    Raises:
        ConfigurationError: the file cannot be read, others than its owner could
            read it, or it is no key file.
    """
    try:
        with os.fdopen(_open_private(path), "rb") as file:
            stamp = _stamp_of(os.fstat(file.fileno()))
            key = parse(file.read())
    except OSError as error:
        message = f"{path} cannot be read ({error.strerror}): restore it from a backup"
        raise ConfigurationError(message) from error
    if key is None:
        message = (
            f"{path} is not a LocalKms key file of format {_FORMAT}: restore it from a backup, "
            "or make a new key with LocalKms.create under another path"
        )
        raise ConfigurationError(message)
    return stamp, key


def stamp(path: Path) -> Stamp | None:
    """What changes whenever the file does; None where it cannot be seen."""
    try:
        return _stamp_of(path.lstat())
    except OSError:
        return None


def parse(content: bytes) -> LocalKey | None:
    """The key that the content of a file means, or None for anything else."""
    # None, not an exception: a chained JSONDecodeError would carry the whole file, keys included.
    try:
        document = json.loads(content)
        key = _key_of(document)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # A second spelling of the same key would be a second, untested format.
    return key if _serialize(document) == content else None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Exclude every other writer of ``path``, in this process and in others.

    Raises:
        KeyServiceUnavailableError: the lock file cannot be made.
    """
    with _writing(path):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(f"{path}.lock", flags, _PRIVATE_MODE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        # Closing alone would not do: a process forked meanwhile has the lock file open too.
        fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


def create(path: Path, arn: str) -> None:
    """Write a key of fresh material where no file was, whole or not at all. Call it ``locked``.

    Raises:
        ConfigurationError: something exists at ``path``.
        KeyServiceUnavailableError: the file cannot be written.
    """
    exists = False
    with _writing(path), _draft(path, _new_content(arn)) as draft:
        try:
            # A link, not a rename: it never replaces, even what a stranger has put there.
            path.hardlink_to(draft)
        except FileExistsError:
            exists = True
        finally:
            draft.unlink()
        _sync_directory(path)
    if exists:
        message = f"{path} exists already: open it with LocalKms(path), or choose another path"
        raise ConfigurationError(message)


def rotate(path: Path) -> str:
    """Add fresh material, and return its id. Call it ``locked``, after ``read``.

    Raises:
        KeyServiceUnavailableError: the file cannot be written; it is unchanged.
    """
    material_id = _new_material_id()

    def add(document: dict[str, Any]) -> None:
        document["materials"].append(_fresh(material_id))

    _change(path, add)
    return material_id


def switch(path: Path, *, enabled: bool) -> None:
    """Enable or disable the key. Call it ``locked``, after ``read``.

    Raises:
        KeyServiceUnavailableError: the file cannot be written; it is unchanged.
    """
    _change(path, lambda document: document.update(enabled=enabled))


def _change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    with _writing(path), _draft(path, _edited(path.read_bytes(), edit)) as draft:
        draft.replace(path)
        _sync_directory(path)


# What holds keys as text returns before anything can raise, and hands on an array that
# is overwritten: error reporters dump the locals of frames.


def _new_content(arn: str) -> bytearray:
    materials = [_fresh(_new_material_id())]
    document = {"format": _FORMAT, "arn": arn, "enabled": True, "materials": materials}
    return bytearray(_serialize(document))


def _edited(content: bytes, edit: Callable[[dict[str, Any]], object]) -> bytearray:
    document = json.loads(content)
    edit(document)
    return bytearray(_serialize(document))


def _fresh(material_id: str) -> dict[str, str]:
    key = base64.b64encode(os.urandom(DATA_KEY_BYTES)).decode("ascii")
    return {"id": material_id, "key": key}


def _new_material_id() -> str:
    return os.urandom(32).hex()


def _serialize(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


def _key_of(document: dict[str, Any]) -> LocalKey:
    if list(document) != ["format", "arn", "enabled", "materials"]:
        raise ValueError
    if document["format"] != _FORMAT or type(document["enabled"]) is not bool:
        raise ValueError
    arn, materials = document["arn"], document["materials"]
    if not (_ARN.fullmatch(arn) and isinstance(materials, list) and materials):
        raise ValueError
    parsed = tuple(map(_material_of, materials))
    if len({material.id for material in parsed}) != len(parsed):
        raise ValueError
    return LocalKey(arn, document["enabled"], parsed)


def _material_of(entry: dict[str, str]) -> Material:
    key = base64.b64decode(entry["key"], validate=True)
    if list(entry) != ["id", "key"] or not is_material_id(entry["id"]):
        raise ValueError
    if len(key) != DATA_KEY_BYTES or base64.b64encode(key).decode("ascii") != entry["key"]:
        raise ValueError
    return Material(entry["id"], WrappingCipher(key))


def _open_private(path: Path) -> int:
    # Non-blocking, so that a named pipe is refused and not waited for.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags)
    except FileNotFoundError as error:
        message = f"{path} does not exist: make a key there with LocalKms.create, or fix the path"
        raise ConfigurationError(message) from error
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        message = f"{path} cannot be opened ({reason}): name a key file that this user owns"
        raise ConfigurationError(message) from error
    refusal = _refusal(path, os.fstat(handle))
    if refusal is not None:
        os.close(handle)
        raise ConfigurationError(refusal)
    return handle


def _refusal(path: Path, status: os.stat_result) -> str | None:
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a regular file: name the key file itself"
    if status.st_uid != os.geteuid():
        return (
            f"{path} belongs to user {status.st_uid}, not to {os.geteuid()} who runs this process: "
            "run as its owner, or change its owner"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        return (
            f"{path} has mode {mode:04o}, so that others may use its keys: chmod 600 it, and "
            "consider its keys known to whoever had access"
        )
    return None


def _stamp_of(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@contextmanager
def _draft(path: Path, content: bytearray) -> Iterator[Path]:
    # One name, free for whoever holds the lock: a crash leaves at most one draft of keys behind.
    draft = path.with_name(f"{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, flags, _PRIVATE_MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    finally:
        content[:] = bytes(len(content))
    yield draft


def _sync_directory(path: Path) -> None:
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "OSError")
        message = (
            f"{path} cannot be written ({error.strerror}): its directory must exist, "
            "be writable and have room"
        )
        raise KeyServiceUnavailableError(message, code=code) from error
