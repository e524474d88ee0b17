"""The names of the scenarios, read from their source: importing it would need a stack."""

from __future__ import annotations

import ast
from pathlib import Path


def names_of_scenarios(module: str = "scenarios") -> list[str]:
    """The scenarios of the module `scenarios`, or `cluster`, in the order in which they run."""
    tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and _is_scenario(node)]


def _is_scenario(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "scenario"
        for decorator in function.decorator_list
    )
