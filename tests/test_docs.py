import re
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])

_PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANY_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")


def python_blocks(document: Path) -> list[str]:
    """Each block behind as many empty lines as precede it, so that tracebacks name its lines."""
    content = document.read_text(encoding="utf-8")
    return [
        "\n" * content.count("\n", 0, block.start(1)) + block[1]
        for block in _PYTHON_BLOCK.finditer(content)
    ]


def missing_links(document: Path, content: str) -> list[str]:
    """The relative links of ``content`` that lead nowhere from ``document``."""
    targets = [urlsplit(link) for link in _LINK.findall(_ANY_BLOCK.sub("", content))]
    relative = [target.path for target in targets if not target.scheme and target.path]
    return [path for path in relative if not (document.parent / path).exists()]


def test_readme_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """What a reader copies first has to work: one namespace, block after block."""
    readme = ROOT / "README.md"
    blocks = python_blocks(readme)
    namespace: dict[str, object] = {"__name__": "readme"}
    monkeypatch.chdir(tmp_path)

    for block in blocks:
        exec(compile(block, readme, "exec"), namespace)  # noqa: S102  the project's own text

    assert len(blocks) >= 3


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document):
    """A moved file must not leave dead links behind."""
    assert missing_links(document, document.read_text(encoding="utf-8")) == []


def test_dead_link_would_be_noticed():
    """The check above must not pass for want of recognising a link."""
    content = "[here](test_docs.py) [gone](gone.md#part) [web](https://example.org/gone.md)"

    assert missing_links(Path(__file__), content) == ["gone.md"]


def test_adopting_runs_from_top_to_bottom(tmp_path, monkeypatch):
    """Whoever has plaintext follows it step by step, on data that matters."""
    page = ROOT / "docs" / "adopting.md"
    # As a module, since the annotations of the model are looked up there.
    module = ModuleType("adopting")
    monkeypatch.setitem(sys.modules, "adopting", module)
    monkeypatch.chdir(tmp_path)

    for block in python_blocks(page):
        exec(compile(block, page, "exec"), module.__dict__)  # noqa: S102  the project's own text

    with module.Session(module.engine) as session:
        session.add(module.Customer(iban="DE1"))
        session.flush()
        written = session.get_one(module.Customer, 1201, populate_existing=True)
        assert (written.iban, written.iban_enc) == ("DE1", "DE1")
    module.engine.dispose()
