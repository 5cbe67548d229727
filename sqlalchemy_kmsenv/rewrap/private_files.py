"""Files that only their owner reads, replaced as a whole, never through a symbolic link."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_MODE = 0o600
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""So that a named pipe is refused and not waited for."""


def read_private(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: it is not there, not readable, a symbolic link, or no regular file.
        PermissionError: others than its owner may write it, or its owner is another user.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if hasattr(os, "geteuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o022):
            raise PermissionError(0, "it is another user's, or others may write it")
        return file.read()


def write_private(path: Path, content: bytes) -> None:
    """Put a file with this content in the place of what is there.

    Raises:
        OSError: it cannot be written; what was there is unchanged.
    """
    # A name that nobody can foresee, and a file that was not there before.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, _MODE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def lock_file(path: Path) -> int:
    """A handle of the lock file ``path``, for ``held_file``.

    Raises:
        OSError: it cannot be made.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | _NOFOLLOW, _MODE)


@contextmanager
def held_file(handle: int, path: Path) -> Iterator[bool]:
    """Hold a lock file inside of the block; False where somebody else does."""
    try:
        got = _locked(handle)
        yield got
        if got:
            # While it is held: whoever opens the name afterwards makes a file of its own.
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # One that was removed in between is held by nobody else, and keeps nobody out.
    return os.fstat(handle).st_nlink > 0
