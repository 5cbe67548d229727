"""Every small change that is tried on a module: one at a time, found anew from its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.mutants.closures import keep_names, names_by_function

Apply = Callable[[], None]
_Found = tuple[int, bool, str, str, Apply]

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_LOCKS = ("lock", "writing", "unlogged")
"""A ``with`` over an expression that says one of these guards something."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module; ``name`` holds no line number, so that it can be kept in a file."""

    number: int
    line: int
    name: str
    at_import: bool
    """Whether it runs while the module is imported: it is in no function."""


def mutants_of(source: str) -> list[Mutant]:
    """The changes that are tried on a module, in the order of its text."""
    return [mutant for mutant, _ in _walk(ast.parse(source))]


def mutated(source: str, number: int) -> ast.Module:
    """The module with one change made."""
    tree = ast.parse(source)
    for mutant, apply in _walk(tree):
        if mutant.number == number:
            names = names_by_function(tree)
            apply()
            keep_names(tree, names)
            return ast.fix_missing_locations(tree)
    raise LookupError(number)


def _walk(tree: ast.Module) -> Iterator[tuple[Mutant, Apply]]:
    # The changes are collected before the first one is made: applying one alters the tree.
    found: list[_Found] = []
    _Finder(found).visit(tree)
    seen: dict[str, int] = {}
    for number, (line, at_import, where, what, apply) in enumerate(found):
        name = f"{where}: {what}"
        seen[name] = seen.get(name, 0) + 1
        suffix = f" #{seen[name]}" if seen[name] > 1 else ""
        yield Mutant(number, line, name + suffix, at_import), apply


class _Finder(ast.NodeVisitor):
    """Visits what runs: no annotations, no docstrings, no messages, no ``__repr__``."""

    def __init__(self, found: list[_Found]) -> None:
        self._found = found
        self._depth = 0
        self._where: list[str] = []

    def _add(self, node: ast.AST, what: str, apply: Apply) -> None:
        line = getattr(node, "lineno", 0)
        where = ".".join(self._where) or "module"
        self._found.append((line, self._depth == 0, where, what, apply))

    # --- where ----------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name == "__repr__":
            return
        self._where.append(node.name)
        for child in [*node.args.defaults, *node.args.kw_defaults]:
            if child is not None:
                self.visit(child)
        self._depth += 1
        self._body(node)
        self._depth -= 1
        self._where.pop()

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._depth += 1
        self.visit(node.body)
        self._depth -= 1

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._where.append(node.name)
        self._body(node)
        self._where.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if _text(node.test) == "TYPE_CHECKING":
            return
        self._test(node)
        self._body(node)
        self._block(node.orelse)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Nothing: it is a message."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """What an error carries beside its message."""
        if isinstance(node.exc, ast.Call):
            for keyword in node.exc.keywords:
                self.visit(keyword.value)

    def _body(self, node: ast.FunctionDef | ast.ClassDef | ast.If) -> None:
        self._block(node.body)

    def _block(self, body: list[ast.stmt]) -> None:
        for index, child in enumerate(body):
            if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                continue
            self._statement(body, index, child)
            self.visit(child)

    # --- statements -----------------------------------------------------------------------

    def _statement(self, body: list[ast.stmt], index: int, node: ast.stmt) -> None:
        def becomes(replacement: ast.stmt) -> Apply:
            def apply() -> None:
                body[index] = ast.copy_location(replacement, node)

            return apply

        if isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await)):
            self._add(node, f"call removed: {_text(node)}", becomes(ast.Pass()))
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            self._add(node, f"assignment removed: {_text(node)}", becomes(ast.Pass()))
        elif isinstance(node, (ast.AugAssign, ast.Delete)):
            self._add(node, f"removed: {_text(node)}", becomes(ast.Pass()))
        elif isinstance(node, ast.Raise):
            self._add(node, f"raise removed: {_text(node)}", becomes(ast.Pass()))
        elif isinstance(node, ast.Return) and node.value is not None:
            self._returned(node)
        elif isinstance(node, ast.Continue):
            self._add(node, "continue->break", becomes(ast.Break()))
        elif isinstance(node, ast.Break):
            self._add(node, "break->continue", becomes(ast.Continue()))

    def _returned(self, node: ast.Return) -> None:
        value = node.value
        if isinstance(value, (ast.Compare, ast.BoolOp)) or _is_not(value):
            for constant in (True, False):
                self._add(
                    node,
                    f"return {constant}: {_text(node)}",
                    _sets(node, "value", ast.Constant(constant)),
                )
        elif not isinstance(value, ast.Constant):
            self._add(node, f"return None: {_text(node)}", _sets(node, "value", ast.Constant(None)))

    def generic_visit(self, node: ast.AST) -> None:
        for _, field in ast.iter_fields(node):
            if isinstance(field, list) and field and isinstance(field[0], ast.stmt):
                self._block(field)
            elif isinstance(field, list):
                for child in field:
                    if isinstance(child, ast.AST):
                        self.visit(child)
            elif isinstance(field, ast.AST):
                self.visit(field)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            text = _text(item.context_expr)
            if any(word in text.lower() for word in _LOCKS):
                null = ast.parse("__import__('contextlib').nullcontext()", mode="eval").body
                self._add(node, f"with removed: {text}", _sets(item, "context_expr", null))
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            never = ast.Tuple([], ast.Load())
            self._add(node, f"handler never: {_text(node.type)}", _sets(node, "type", never))
            if isinstance(node.type, ast.Tuple):
                for index, kind in enumerate(node.type.elts):
                    rest = [e for i, e in enumerate(node.type.elts) if i != index]
                    self._add(
                        node,
                        f"exception dropped: {_text(kind)}",
                        _sets(node, "type", ast.Tuple(rest, ast.Load())),
                    )
        self._block(node.body)

    # --- expressions ----------------------------------------------------------------------

    def _test(self, node: ast.If | ast.While | ast.IfExp) -> None:
        for constant in (True, False):
            if isinstance(node, ast.While) and constant:
                continue
            self._add(
                node,
                f"if->{constant}: {_text(node.test)}",
                _sets(node, "test", ast.Constant(constant)),
            )
        self.visit(node.test)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._test(node)
        self.visit(node.body)
        self.visit(node.orelse)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._test(node)
        self._block(node.body)

    def visit_Compare(self, node: ast.Compare) -> None:
        for index, operator in enumerate(node.ops):
            other = _COMPARISONS[type(operator)]
            what = f"{type(operator).__name__}->{other.__name__}: {_text(node)}"
            self._add(node, what, _puts(node.ops, index, other()))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add(node, f"and<->or: {_text(node)}", _sets(node, "op", other))
        for index, operand in enumerate(node.values):
            rest = [value for i, value in enumerate(node.values) if i != index]
            # A BoolOp has two operands at least: the one that is left stands twice.
            rest = rest * 2 if len(rest) == 1 else rest
            what = f"operand dropped: {_text(operand)} in {_text(node)}"
            self._add(node, what, _sets(node, "values", rest))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if _is_not(node):
            # not x -> not not x: the node itself cannot be put in another's place from here.
            doubled = ast.UnaryOp(ast.Not(), node.operand)
            self._add(node, f"not removed: {_text(node)}", _sets(node, "operand", doubled))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _OPERATORS.get(type(node.op))
        if other is not None and not _is_annotation(node):
            what = f"{type(node.op).__name__}->{other.__name__}: {_text(node)}"
            self._add(node, what, _sets(node, "op", other()))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) is int:
            for step in (1, -1):
                what = f"int{step:+d}: {node.value}"
                self._add(node, what, _sets(node, "value", node.value + step))

    def visit_Call(self, node: ast.Call) -> None:
        if len(node.args) == 2 and not any(isinstance(arg, ast.Starred) for arg in node.args):
            swapped = list(reversed(node.args))
            alike = _text(swapped[0]) == _text(swapped[1])
            if not alike and _text(node.func) not in ("isinstance", "cast", "zip", "TypeVar"):
                self._add(node, f"swapped: {_text(node)}", _sets(node, "args", swapped))
        self.generic_visit(node)


def _sets(node: ast.AST, field: str, value: object) -> Apply:
    return lambda: setattr(node, field, value)


def _puts(items: list, index: int, value: object) -> Apply:
    def apply() -> None:
        items[index] = value

    return apply


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _is_not(node: ast.AST | None) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _is_annotation(node: ast.BinOp) -> bool:
    """Whether it is a union such as ``str | None``."""
    return isinstance(node.op, ast.BitOr) and any(
        isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.right)
    )
