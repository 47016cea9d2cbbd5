"""Small rooms: modules, functions, and the budget of the path of a prompt."""

import ast

from house.tree import modules, texts

MODULE_LINES = 400
FUNCTION_LINES = 60
SHELL_LINES = 80
# Everything a prompt passes through once it is decided. Raise it only in a commit of its own, with the reason.
PROMPT_PATH_LINES = 12600


def test_modules_stay_small() -> None:
    assert not [f"{m.name}: {m.lines}" for m in modules() if m.lines > MODULE_LINES]


def test_functions_stay_small() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    wrong.append(f"{module.name}.{node.name}: {lines}")
    assert not wrong


def test_test_modules_stay_small() -> None:
    wrong = [str(p) for p, text in texts() if p.parts[-1].startswith("test_") and len(text.splitlines()) > MODULE_LINES]
    assert not wrong


def test_shell_files_stay_small() -> None:
    assert not [str(p) for p, t in texts() if t.startswith("#!/bin/sh") and len(t.splitlines()) > SHELL_LINES]


def test_the_path_of_a_prompt_stays_within_its_budget() -> None:
    rooms = {"wire", "routing", "stage", "chat"}
    assert sum(m.lines for m in modules() if m.room in rooms) <= PROMPT_PATH_LINES
