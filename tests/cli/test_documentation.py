"""docs/command-line.md: its commands run, and its documents have the shape of real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from sqlalchemy_kmsenv import LocalKms
from sqlalchemy_kmsenv.cli.main import COMMANDS
from sqlalchemy_kmsenv.envelope import parse_header
from tests.cli.conftest import ROOT
from tests.test_docs import python_blocks

PAGE = ROOT / "docs" / "command-line.md"
TEXT = PAGE.read_text(encoding="utf-8")
COMMAND_LINES = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
]
DOCUMENTS = [
    json.loads(block)
    for block in re.findall(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
]
SURVEY, REPORT, HEADER = DOCUMENTS
STORE = """
from shop.models import Customer, with_keyrings
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

engine = create_engine("sqlite:///shop.db")
with_keyrings().metadata.create_all(engine)
with Session(engine) as session:
    session.add_all(Customer(iban=f"DE{number:020}") for number in range(50))
    session.commit()
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """The page's application, with rows from before a rotation of its key."""
    kms = LocalKms.create(tmp_path / "key.json")
    LocalKms.create(tmp_path / "next.json")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "models.py").write_text(python_blocks(PAGE)[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_KEY", f"local://{tmp_path / 'key.json'}")
    monkeypatch.setenv("SHOP_NEXT_KEY", f"local://{tmp_path / 'next.json'}")
    monkeypatch.setenv("KMSENV_DATABASE_URL", "sqlite:///shop.db")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    subprocess.run([sys.executable, "-c", STORE], check=True)
    envelope = first_envelope()
    Path("envelope.hex").write_text(envelope.hex(), encoding="utf-8")
    monkeypatch.setenv("LEAKED", parse_header(envelope).reference.commitment.hex())
    kms.rotate()
    return tmp_path


def first_envelope() -> bytes:
    """What is stored of the first customer."""
    engine = create_engine("sqlite:///shop.db")
    with engine.connect() as connection:
        found: bytes = connection.exec_driver_sql(
            "SELECT iban FROM customers WHERE id = 1"
        ).scalar_one()
    engine.dispose()
    return found


def run_line(line: str) -> subprocess.CompletedProcess[str]:
    """A line of the page, in a shell."""
    return subprocess.run(line, shell=True, capture_output=True, text=True, check=False)  # noqa: S602  the project's own text


def shape(document: Any) -> Any:
    """The names in a document, without its values; of lists the first element."""
    if isinstance(document, dict):
        return {name: shape(value) for name, value in document.items()}
    if isinstance(document, list) and document and isinstance(document[0], dict):
        return [shape(document[0])]
    return None


@pytest.mark.timeout(300)
def test_every_command_of_the_page_runs_in_order(shop, monkeypatch):
    """What an operator copies at night has to work, with the exit code that it says."""
    for line in COMMAND_LINES:
        expected = re.search(r"# exit (\d)", line)
        result = run_line(line)
        if "--to" in line:
            # The application moves along.
            monkeypatch.setenv("SHOP_KEY", os.environ["SHOP_NEXT_KEY"])
        assert result.returncode == (int(expected[1]) if expected else 0), (line, result.stderr)


def test_page_mentions_every_job():
    """Or an operator would not know that it exists."""
    jobs = {"survey", "rewrap", "reencrypt", "verify", "inspect"}

    assert jobs <= {line.split()[1] for line in COMMAND_LINES}
    assert jobs <= set(COMMANDS)


def test_documents_have_the_shape_of_real_ones(shop):
    """Programs are written against the page."""
    about = "--metadata shop.models:with_keyrings --json"
    surveyed = json.loads(run_line(f"kmsenv survey {about}").stdout)
    engine = create_engine("sqlite:///shop.db")
    with engine.begin() as connection:
        copied = "UPDATE customers SET iban = (SELECT iban FROM customers WHERE id = 1)"
        connection.exec_driver_sql(f"{copied} WHERE id = 5")
    engine.dispose()
    verified = run_line(f"kmsenv verify {about}")
    inspected = json.loads(run_line("kmsenv inspect --json --file envelope.hex").stdout)

    report = json.loads(verified.stdout)
    assert shape(surveyed) == shape(SURVEY)
    assert (verified.returncode, shape(report)) == (1, shape(REPORT))
    assert report["columns"][0]["failures"][0]["row"] == ["5"]
    assert shape(inspected) == shape(HEADER)
