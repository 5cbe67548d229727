import re
from pathlib import Path
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


def python_files(document: Path) -> dict[str, str]:
    """The blocks that begin with the name of a file, by that name."""
    blocks = [block.strip("\n") + "\n" for block in python_blocks(document)]
    named = [(re.match(r"# (\w+\.py)\n", block), block) for block in blocks]
    return {name[1]: block for name, block in named if name}


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
