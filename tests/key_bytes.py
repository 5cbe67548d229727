"""Looks for key bytes in everything that an error reporter could reach from an exception."""

from __future__ import annotations

import base64
import types
from collections.abc import Iterable, Iterator
from typing import Any

MAX_DEPTH = 14
_OPAQUE = (types.ModuleType, type, int, float, complex, types.CodeType)


def frames_of(error: BaseException) -> Iterator[types.FrameType]:
    """The frames of an exception's own traceback."""
    step = error.__traceback__
    while step is not None:
        yield step.tb_frame
        step = step.tb_next


def neighbours(thing: Any) -> Iterator[Any]:
    """What a reporter that walks objects finds one step away from ``thing``."""
    if isinstance(thing, BaseException):
        yield from (thing.__cause__, thing.__context__, thing.args, getattr(thing, "object", None))
        yield from (
            frame for frame in frames_of(thing) if "/tests/" not in frame.f_code.co_filename
        )
    if isinstance(thing, types.FrameType):
        yield dict(thing.f_locals)
    if isinstance(thing, types.FunctionType):
        yield from (cell.cell_contents for cell in thing.__closure__ or () if _is_full(cell))
        yield from (thing.__defaults__, thing.__kwdefaults__)
    for name in ("__self__", "__func__", "__wrapped__", "func", "keywords", "gi_frame"):
        yield _attribute(thing, name)
    if isinstance(thing, dict):
        yield from (*thing.keys(), *thing.values())
    elif isinstance(thing, (list, tuple, set, frozenset)) or type(thing).__name__ == "deque":
        yield from thing
    yield _attribute(thing, "__dict__")
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            yield _attribute(thing, slot)


def _attribute(thing: Any, name: str) -> Any:
    try:
        # Not getattr: a class may make attributes up.
        return object.__getattribute__(thing, name)
    except Exception:  # noqa: BLE001  a property may raise anything
        return None


def _is_full(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def spellings(secret: bytes) -> tuple[bytes, ...]:
    """A secret as it stands in memory, in JSON, and in a ``repr``."""
    return secret, base64.b64encode(secret), secret.hex().encode(), repr(secret)[2:-1].encode()


def found_in(error: BaseException, secrets: Iterable[bytes]) -> list[str]:
    """The ways from ``error`` to any of ``secrets``; empty where none is reachable."""
    wanted = [each for secret in secrets for each in spellings(secret)]
    assert wanted
    seen: dict[int, Any] = {}
    ways: list[str] = []
    now: list[tuple[Any, str]] = [(error, type(error).__name__)]
    for _ in range(MAX_DEPTH):
        following: list[tuple[Any, str]] = []
        for thing, way in now:
            content = _bytes_of(thing)
            if content is not None:
                ways += [way for each in wanted if each in content]
                continue
            for near in neighbours(thing):
                if near is None or isinstance(near, _OPAQUE) or id(near) in seen:
                    continue
                # Kept, so that no other object gets its id.
                seen[id(near)] = near
                following.append((near, f"{way} > {_named(near)}"))
        now = following
    return ways


def _named(thing: Any) -> str:
    return thing.f_code.co_qualname if isinstance(thing, types.FrameType) else type(thing).__name__


def _bytes_of(thing: Any) -> bytes | None:
    if isinstance(thing, str):
        return thing.encode(errors="replace")
    return bytes(thing) if isinstance(thing, (bytes, bytearray, memoryview)) else None
