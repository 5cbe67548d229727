"""Whether the vectors notice each of the mistakes that another reader may make.

``python -m tests.vectors.bugs`` plants one after the other in the second reader.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tests.vectors.mistakes import MISTAKES
from tests.vectors.opening import VECTORS
from tests.vectors.reader import Reader


class Traced(Reader):
    """The right reader, and which of its methods a case needs."""

    def __init__(self) -> None:
        self.called: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        object.__getattribute__(self, "__dict__").setdefault("called", set()).add(name)
        return object.__getattribute__(self, name)


def cases_of_methods(document: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The cases that need a method: at others a reader that has a wrong one is as right."""
    needed = defaultdict(list)
    for case in document["cases"]:
        reader = Traced()
        reader.outcome(document, case)
        for name in reader.called:
            needed[name].append(case)
    return needed


def wrong_reader(name: str) -> Reader:
    """The second reader with one mistake."""
    reader: Reader = type("Wrong", (Reader,), dict(MISTAKES[name]))()
    return reader


def unnoticed(document: Mapping[str, Any]) -> Iterator[str]:
    """The mistakes with which a reader passes every vector."""
    needed = cases_of_methods(document)
    for name, methods in MISTAKES.items():
        reader = wrong_reader(name)
        # Those cases that were made for mistakes are at the end.
        cases = (case for method in methods for case in reversed(needed[method]))
        if all(is_right(reader, document, case) for case in cases):
            yield name


def is_right(reader: Reader, document: Any, case: Any) -> bool:
    """Whether a reader says of a case what the vectors say; one that fails otherwise does not."""
    try:
        found = reader.outcome(document, case)
    except Exception:  # noqa: BLE001  a wrong reader may do anything
        return False
    return found == {"outcome": case["outcome"], "value": case["value"]}


def main() -> int:
    """Say which mistakes no vector notices."""
    document = json.loads(VECTORS.read_text(encoding="ascii"))
    left = list(unnoticed(document))
    for name in left:
        sys.stderr.write(f"no vector notices: {name}\n")
    noticed, vectors = len(MISTAKES) - len(left), len(document["cases"])
    sys.stdout.write(f"{noticed} of {len(MISTAKES)} mistakes noticed by {vectors} vectors\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
