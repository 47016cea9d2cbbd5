"""Errors speak to the owner; every public thing says its contract."""

import ast
import re

import mycoswarm.base.errors as errors
from house.tree import modules
from mycoswarm.base.errors import SwarmError

CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, SwarmError)]


def test_every_error_has_its_own_code_a_status_and_a_hint() -> None:
    codes = [c.code for c in CLASSES]
    assert len(set(codes)) == len(codes)
    for c in CLASSES:
        assert re.fullmatch(r"[a-z][a-z_]+", c.code) and 400 <= c.status <= 599 and c.default_hint.endswith(".")


def test_the_tree_at_the_top_is_the_tree_below() -> None:
    drawn = dict(re.findall(r"─ (\w+)\s+(\d{3})", errors.__doc__ or ""))
    assert drawn == {c.__name__: str(c.status) for c in CLASSES if c is not SwarmError}


def test_only_our_own_errors_are_raised() -> None:
    allowed = {c.__name__ for c in CLASSES} | {"SystemExit", "KeyboardInterrupt", "StopIteration", "AssertionError"}
    protocol = {"ValueError", "TypeError", "OSError", "EOFError", "ConnectionError", "TimeoutError", "RuntimeError"}
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
                name = node.exc.func.id
                if name in protocol and name not in allowed:
                    wrong.append(f"{module.name}:{node.lineno} raises {name}")
    assert not wrong


def test_nothing_passes_in_silence() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler):
                broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "BaseException")
                if broad and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                    wrong.append(f"{module.name}:{node.lineno}")
    assert not wrong


def test_public_classes_and_functions_say_their_contract() -> None:
    wrong = []
    for module in modules():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith(
                "_"
            ):
                if not ast.get_docstring(node):
                    wrong.append(f"{module.name}.{node.name}")
                is_foreign = isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(b) for b in node.bases)
                if isinstance(node, ast.ClassDef) and not is_foreign:
                    wrong += [
                        f"{module.name}.{node.name}.{inner.name}"
                        for inner in node.body
                        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                        and not inner.name.startswith("_")
                        and not ast.get_docstring(inner)
                    ]
    assert not wrong
