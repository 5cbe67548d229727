"""``docs/statements.md``, from the kept file and from the shapes that the matrix does not have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

from tests.columns import shapes as others
from tests.matrix import kept
from tests.matrix.axes import AXES
from tests.matrix.cells import SOURCES, Cell
from tests.matrix.covering import Choice
from tests.matrix.registry import SHAPES, Shape
from tests.matrix.sweep import PAIRS, shares

PAGE = Path(__file__).parents[2] / "docs" / "statements.md"
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mysql": "MySQL", "mariadb": "MariaDB"}

_LIKELY = ("key", "scope", "bind", "identity", "returning", "many")
_ALL = (*AXES, "returning", "many")

Condition = frozenset[tuple[str, str]]
Errors = dict[Cell, str]


def page() -> str:
    """The whole page."""
    known = kept.read()
    found: dict[str, dict[str, Errors]] = {name: {} for name in SHAPES}
    for database, share in shares([*DATABASES], PAIRS).items():
        for mine in share.values():
            for cell in mine:
                error = kept.expected(known, cell, database)
                found[cell.shape].setdefault(database, {})[cell] = error
    lines = [_HEAD, *(f"| `{axis}` | {_values(values)} |" for axis, values in AXES.items())]
    for section in (source.SECTION for source in SOURCES):
        head = f"| shape | {' | '.join(DATABASES.values())} | |"
        lines += ["", f"## {section}", "", head, "|---|---|---|---|---|---|"]
        mine_here = [shape for shape in SHAPES.values() if shape.section == section]
        lines += [_line(shape, found[shape.name]) for shape in mine_here]
        lines += [_other(each) for each in others.SHAPES.values() if each.section == section]
    return "\n".join(lines) + "\n"


def _values(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _line(shape: Shape, found: dict[str, Errors]) -> str:
    found = {database: _there(errors) for database, errors in found.items()}
    outcomes = [_outcome(found.get(database, {})) for database in DATABASES]
    partly = {cell: e for each in found.values() if _is_partly(each) for cell, e in each.items()}
    why = [shape.why, *([_but(partly)] if partly else [])]
    return _row(shape.code, outcomes, " ".join(why))


def _there(errors: Errors) -> Errors:
    """Without the cells that plain columns do not have, unless there are no others."""
    there = {cell: error for cell, error in errors.items() if error != kept.ABSENT}
    return there or errors


def _is_partly(errors: Errors) -> bool:
    return any(errors.values()) and not all(errors.values())


def _outcome(errors: Errors) -> str:
    named = sorted(set(errors.values()) - {""})
    if not named:
        return "works"
    if _is_partly(errors):
        return "works, but"
    return "none such" if named == [kept.ABSENT] else f"`{named[0]}`"


def _other(shape: others.Shape) -> str:
    outcomes = []
    for database in DATABASES:
        tested = "mariadb" if database == "mysql" else database
        error = shape.refused.get(tested)
        none_such = tested in shape.absent
        outcomes.append("none such" if none_such else f"`{error.__name__}`" if error else "works")
    return _row(shape.code, outcomes, (shape.run.__doc__ or "").strip())


def _row(code: str, outcomes: Iterable[str], why: str) -> str:
    escaped = code.replace("|", "\\|")
    return f"| `{escaped}` | {' | '.join(outcomes)} | {why} |"


def _but(errors: Errors) -> str:
    """What the refused ones among the cells of a shape have in common."""
    names = " or ".join(f"`{name}`" for name in sorted(set(errors.values()) - {""}))
    return f"{names} with {'; '.join(map(_words, conditions(errors)))}."


def conditions(errors: Errors) -> list[Condition]:
    """Few conditions that hold for what is refused, and for nothing that works."""
    refused = [_items(cell) for cell, error in errors.items() if error]
    works = [_items(cell) for cell, error in errors.items() if not error]
    chosen: list[Condition] = []
    for axes, size in ((_LIKELY, 1), (_LIKELY, 2), (_LIKELY, 3), (_ALL, 1), (_ALL, 2), (_ALL, 3)):
        while refused:
            best, rows = _best(refused, works, size, axes)
            if rows == 0:
                break
            chosen.append(best)
            refused = [row for row in refused if not best <= row]
    return chosen


def _best(
    refused: list[Condition], works: list[Condition], size: int, axes: tuple[str, ...]
) -> tuple[Condition, int]:
    """The condition of so many values that holds for most of what is refused."""
    holding: dict[Condition, int] = {}
    for row in refused:
        items = [item for item in row if item[0] in axes]
        for each in map(frozenset, combinations(items, size)):
            holding[each] = holding.get(each, 0) + 1
    right = [each for each in holding if not any(each <= row for row in works)]
    best = max(right, key=lambda each: (holding[each], sorted(each)), default=frozenset())
    return best, holding.get(best, 0)


def _items(cell: Cell) -> Condition:
    row: Choice = {**asdict(cell.design), "returning": cell.returning, "many": cell.many}
    return frozenset(row.items())


def _words(condition: Condition) -> str:
    return " and ".join(f"`{axis}={value}`" for axis, value in sorted(condition))


_HEAD = """\
# Statements

Each shape of statement, and what becomes of it: it works, or an error is raised before
anything is written. Every line is run on SQLite, PostgreSQL and MariaDB, there with SQLAlchemy's
`mysql` and its `mariadb` dialects, and with one more driver each; with the lowest SQLAlchemy that
is supported and with the newest; and with models of which every two of these values meet. What
works gives what plain columns give, and its values come back in another process. MySQL proper has
not been run; it returns no keys, as `mysql` here.

`t` is the table of `Note`, `text` an encrypted column. "Works, but" is refused with some models
or variations, which the last column names by the axes below (`returning`: what a statement
returns, `many`: one parameter set or many); tests/matrix/refused.txt lists each.

| axis of models | values |
|---|---|"""

if __name__ == "__main__":
    PAGE.write_text(page())
