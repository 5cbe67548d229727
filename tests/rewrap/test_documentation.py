from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.conftest import on
from tests.rewrap.conftest import Notes
from tests.test_docs import python_blocks

PAGE = Path(__file__).parents[2] / "docs" / "rewrap.md"


@on("sqlite")
def test_the_three_lines_run(notes: Notes, tmp_path, monkeypatch, capsys):
    """What an operator copies first has to work."""
    notes.key.rotate()
    monkeypatch.chdir(tmp_path)
    base = SimpleNamespace(metadata=notes.metadata)
    namespace: dict[str, Any] = {"engine": notes.engine, "Base": base}

    exec(compile(python_blocks(PAGE)[0], PAGE, "exec"), namespace)  # noqa: S102  own text

    assert "not_at_target" in capsys.readouterr().out
    assert namespace["report"].counts.rewritten == 57


def test_every_block_is_python():
    """The others need a cluster or another model; a slip of syntax would still be seen."""
    blocks = python_blocks(PAGE)

    assert len(blocks) == 3
    for block in blocks:
        compile(block, PAGE, "exec")
