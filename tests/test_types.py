"""Every public function and method says what it takes and what it gives."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import ROOT

FILES = [
    path
    for folder in ("edge_ssd", "build_engine", "kernels")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__pycache__" not in path.parts
]


def public_functions(tree):
    """(name, node) of the functions of a module and of its public classes that others may call, __init__ too."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for member in node.body:
                if not isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                if member.name == "__init__" or not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member


def unannotated(node, is_method):
    """What of a function has no annotation: names of arguments, and "return"."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    decorators = {one.id for one in node.decorator_list if isinstance(one, ast.Name)}
    if is_method and "staticmethod" not in decorators:
        arguments = arguments[1:]
    arguments += [one for one in (node.args.vararg, node.args.kwarg) if one]
    missing = [one.arg for one in arguments if one.annotation is None]
    return missing + ["return"] * (node.returns is None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_are_annotated(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = {name: found for name, node in public_functions(tree) if (found := unannotated(node, "." in name))}
    assert not missing
