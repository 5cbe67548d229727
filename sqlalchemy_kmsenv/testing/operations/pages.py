"""Lists that are too long for one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy_kmsenv.testing.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy_kmsenv.testing.calls import Call

_USUAL_LIMIT = 100


def page(call: Call, member: str, items: Sequence[Any]) -> dict[str, Any]:
    """The part of ``items`` that ``Limit`` and ``Marker`` of the call ask for.

    Raises:
        Refusal: ``InvalidMarkerException``, the marker is none that was given out.
    """
    start = _start(call)
    end = start + call.get("Limit", _USUAL_LIMIT)
    more = end < len(items)
    return {
        member: list(items[start:end]),
        "Truncated": more,
        **({"NextMarker": f"after-{end}"} if more else {}),
    }


def _start(call: Call) -> int:
    marker = call.get("Marker")
    if marker is None:
        return 0
    number = marker.removeprefix("after-")
    if number == marker or not (number.isascii() and number.isdigit() and len(number) < 10):
        raise Refusal("InvalidMarkerException", "The marker is not valid.")
    return int(number)
