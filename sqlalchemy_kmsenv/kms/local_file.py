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
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy_kmsenv.errors import ConfigurationError, KeyServiceUnavailableError
from sqlalchemy_kmsenv.kms.arguments import is_material_id
from sqlalchemy_kmsenv.kms.protocol import DATA_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
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
    key: bytes = field(repr=False)

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("key material cannot be pickled")


@dataclass(frozen=True, slots=True)
class LocalKey:
    """All that a key file holds."""

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
    handle = _open_private(path)
    with os.fdopen(handle, "rb") as file:
        stamp = _stamp_of(os.fstat(file.fileno()))
        key = parse(file.read())
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
    """The key that ``serialize`` wrote, or None for anything else."""
    # None, not an exception: a chained JSONDecodeError would carry the whole file, keys included.
    try:
        key = _key_of(json.loads(content))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # A second spelling of the same key would be a second, untested format.
    return key if serialize(key) == content else None


def serialize(key: LocalKey) -> bytes:
    """The content of the key file: JSON with the key material in base64."""
    document = {
        "format": _FORMAT,
        "arn": key.arn,
        "enabled": key.enabled,
        "materials": [
            {"id": m.id, "key": base64.b64encode(m.key).decode("ascii")} for m in key.materials
        ],
    }
    return json.dumps(document, indent=2).encode("ascii") + b"\n"


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


def create(path: Path, key: LocalKey) -> None:
    """Write a file that did not exist, whole or not at all. Call it ``locked``.

    Raises:
        ConfigurationError: something exists at ``path``.
        KeyServiceUnavailableError: the file cannot be written.
    """
    with _writing(path):
        draft = _write_draft(path, serialize(key))
        try:
            # A link, not a rename: it never replaces, even what a stranger has put there.
            path.hardlink_to(draft)
        except FileExistsError as error:
            message = f"{path} exists already: open it with LocalKms(path), or choose another path"
            raise ConfigurationError(message) from error
        finally:
            draft.unlink()
        _sync_directory(path)


def replace(path: Path, key: LocalKey) -> None:
    """Put ``key`` in place of the file's content, whole or not at all. Call it ``locked``.

    Raises:
        KeyServiceUnavailableError: the file cannot be written; it is unchanged.
    """
    with _writing(path):
        _write_draft(path, serialize(key)).replace(path)
        _sync_directory(path)


def _key_of(document: dict[str, object]) -> LocalKey:
    materials = document["materials"]
    if not (isinstance(materials, list) and materials):
        raise ValueError
    key = LocalKey(
        arn=str(document["arn"]),
        enabled=bool(document["enabled"]),
        materials=tuple(
            Material(m["id"], base64.b64decode(m["key"], validate=True)) for m in materials
        ),
    )
    ids = {m.id for m in key.materials if is_material_id(m.id) and len(m.key) == DATA_KEY_BYTES}
    if len(ids) != len(materials) or not _ARN.fullmatch(key.arn):
        raise ValueError
    return key


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


def _write_draft(path: Path, content: bytes) -> Path:
    # One name, free for whoever holds the lock: a crash leaves at most one draft of keys behind.
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, _PRIVATE_MODE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


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
