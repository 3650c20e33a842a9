"""Which functions of the library compute which equation: what their docstrings say, as "Eq. (eq-label)"."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
NAMED = re.compile(r"Eq\.\s+((?:\(eq-[\w-]+\)(?:,\s+|\s+and\s+)?)+)")


def implementations() -> dict[str, list[str]]:
    """Label -> the dotted names of the functions and classes, without the package's, whose docstrings name it."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for name, node in _definitions(tree, module):
            for labels in NAMED.findall(ast.get_docstring(node) or ""):
                for label in re.findall(r"eq-[\w-]+", labels):
                    found.setdefault(label, []).append(name)
    return found


def _definitions(node: ast.AST, name: str):
    """The functions and classes in node with their dotted names, at every depth."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = f"{name}.{child.name}"
            yield inner, child
            yield from _definitions(child, inner)
