"""Lets the changed code of a function fit the closure of the one that exists."""

from __future__ import annotations

import ast


def names_by_function(tree: ast.Module) -> dict[ast.FunctionDef, set[str]]:
    """What each function of a module mentions."""
    return {
        node: {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }


def keep_names(tree: ast.Module, before: dict[ast.FunctionDef, set[str]]) -> None:
    """Mention in a function what it mentioned, in vain: its code must fit its old closure."""
    for node, names in names_by_function(tree).items():
        if gone := before[node] - names:
            mentions: list[ast.stmt] = [
                ast.Expr(ast.Name(name, ast.Load())) for name in sorted(gone)
            ]
            node.body.append(ast.If(ast.Constant(0), mentions, []))
