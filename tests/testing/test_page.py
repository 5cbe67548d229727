"""``docs/testing.md``: its examples run, its tables are complete."""

import re

import pytest
from click.testing import CliRunner

from sqlalchemy_kmsenv.cli.main import main
from sqlalchemy_kmsenv.testing import Fault
from sqlalchemy_kmsenv.testing.conditions import KNOWN
from sqlalchemy_kmsenv.testing.operations import OPERATIONS
from tests.test_docs import ROOT, python_blocks

pytest_plugins = ["pytester"]
PAGE = ROOT / "docs" / "testing.md"


@pytest.fixture
def text():
    """The page."""
    return PAGE.read_text(encoding="utf-8")


def test_the_examples_are_a_test_module_that_passes(pytester):
    """What a reader copies first has to work."""
    pytester.makepyfile("".join(block.lstrip("\n") + "\n\n" for block in python_blocks(PAGE)))

    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=4)


def test_every_flag_is_on_the_page(text):
    """A flag that nobody finds is none."""
    help_text = CliRunner().invoke(main, ["kms", "serve", "--help"]).output
    flags = set(re.findall(r"--[a-z-]+", help_text)) - {"--help"}

    assert {flag for flag in flags if flag not in text} == set()


def test_every_operation_fault_and_condition_is_on_the_page(text):
    """What is served, and no more."""
    listed = re.split(r"[^\w-]+", text.partition("Operations:\n")[2].partition("any other")[0])
    served = {word for word in listed if word in OPERATIONS}

    assert served == set(OPERATIONS)
    assert {fault for fault in Fault if f'"{fault}"' not in text} == set()
    assert {key for key in KNOWN if key not in text.lower()} == set()
