"""Imports go one way, and each dependency stays in its room."""

import ast
from pathlib import Path

import pytest

import sqlalchemy_kmsenv

PACKAGE = Path(sqlalchemy_kmsenv.__file__).parent
# From the bottom to the top; a module may import from its own layer and from those below.
LAYERS = [
    {"errors", "defaults", "printable", "version"},
    {"envelope", "cell", "context", "codecs", "json_text"},
    {"aead"},
    {"kms"},
    {"keyring"},
    {"columns"},
    {"by_hand"},
    {"rewrap", "access"},
    {"testing"},
    {"cli", "alembic_plugin", "alembic_own_tables", "alembic_rendering"},
    {""},
]
AWS = {"kms.aws_client", "kms.aws_endpoint", "kms.aws_role"}
ONLY_IN = {
    "cryptography": {"aead"},
    "boto3": {*AWS, "testing.clients"},
    "botocore": {*AWS, "testing.clients", "testing.service_model"},
    "opentelemetry": {"keyring.telemetry"},
    "pytest": {"testing.pytest_plugin"},
}


def modules():
    """Every module of the package, as its name below it and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, ast.parse(path.read_text())


def imports(tree):
    """The modules that are imported when the module runs, not those for types alone."""
    for_types = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            module = node.module or ""
            if module == "sqlalchemy_kmsenv":
                yield from (f"{module}.{alias.name}" for alias in node.names)
            else:
                yield module


def layer(name):
    """How high a module stands."""
    room = name.partition(".")[0]
    return next(height for height, rooms in enumerate(LAYERS) if room in rooms)


MODULES = dict(modules())


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_downwards_only(name):
    """The lower layers can be read, tested and reused without the upper ones."""
    for imported in imports(MODULES[name]):
        top, _, rest = imported.partition(".")
        if top == "sqlalchemy_kmsenv" and name != "":
            assert layer(rest) <= layer(name), f"{name or 'the package'} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_a_dependency_stays_in_its_room(name):
    """One place to review, to replace, and to look for when it changes."""
    for imported in imports(MODULES[name]):
        top = imported.partition(".")[0]
        if top in ONLY_IN:
            assert name in ONLY_IN[top], f"{name} imports {imported}"
        if top == "sqlalchemy":
            assert layer(name) >= layer("columns"), f"{name} imports {imported}"
            assert layer(name) != layer("testing"), f"{name} imports {imported}"
