"""The changes that are tried are made, each alone, in functions that exist already."""

from __future__ import annotations

import ast
import importlib.util

from tests.mutants.mutators import mutants_of, mutated
from tests.mutants.trials import code_of_functions, exchange, exchangeable, functions_of

SOURCE = '''
"""A module."""
LIMIT = 3

class Shelf:
    def __repr__(self):
        return "never changed"

    def room(self, taken):
        """How much is left."""
        def left():
            return LIMIT - taken
        return left()

full, empty = (lambda n: n >= 3), (lambda n: n == 0)

def checked(n):
    if n < 0:
        raise ValueError("negative" if n else "zero")
    return n
'''


def answers(module):
    """What the functions of the module say now."""
    found = []
    for n in (-1, 0, 2, 3):
        for function in (module.Shelf().room, module.full, module.empty, module.checked):
            try:
                found.append(function(n))
            except (TypeError, ValueError) as error:
                found.append(type(error))
    return found


def test_every_change_of_a_function_is_made_in_those_that_exist(tmp_path):
    """A change that is not made, or an error of our own, would count as noticed by the tests."""
    path = tmp_path / "changed.py"
    path.write_text(SOURCE)
    before = code_of_functions(compile(SOURCE, str(path), "exec"))
    inside = [mutant for mutant in mutants_of(SOURCE) if not mutant.at_import]
    unlike = []
    for mutant in inside:
        spec = importlib.util.spec_from_file_location("changed", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        as_it_is = answers(module)
        changed = compile(mutated(SOURCE, mutant.number), str(path), "exec")
        after = code_of_functions(changed)
        assert exchangeable(before, after)
        exchange(functions_of(tmp_path)[str(path)], before, after)
        if answers(module) != as_it_is:
            unlike.append(mutant)
    assert [mutant.name for mutant in inside if mutant not in unlike] == []


def test_changes_have_names_of_their_own_and_leave_messages_alone():
    """A name stands in a file, below the reason for which its change may survive."""
    names = [mutant.name for mutant in mutants_of(SOURCE)]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "__repr__" in name or name.startswith("module: if")]
    assert [name for name in names if "checked: if" in name] == [
        "checked: if->True: n < 0",
        "checked: if->False: n < 0",
    ]
    assert ast.unparse(mutated(SOURCE, 0)) != ast.unparse(ast.parse(SOURCE))
