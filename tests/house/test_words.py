"""Names, words and addresses that do not belong into this house."""

import ast
import re
from collections import Counter

from house.tree import PACKAGE, ROOT, modules, texts

EMPTY_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "misc", "core"}
OPEN_WORDS = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b|NotImplemented" r"Error")
SHELLS = {"os.system", "os.popen", "asyncio.create_subprocess_shell"}
REGISTRIES = re.compile(r"(py" r"pi|python" r"hosted|registry\.npm" r"js|deb\.deb" r"ian)\.(org|com)")


def test_modules_are_one_plain_noun_and_no_two_share_a_name() -> None:
    names = [m.path.stem for m in modules() if m.path.stem != "__init__"]
    assert not [name for name in names if name in EMPTY_NAMES or "_" in name]
    assert not [name for name, count in Counter(names).items() if count > 1]


def test_every_module_opens_with_what_it_is_for() -> None:
    assert not [m.name for m in modules() if not ast.get_docstring(m.tree)]


def test_a_package_file_is_one_docstring() -> None:
    assert not [m.name for m in modules() if m.path.stem == "__init__" and len(m.tree.body) != 1]


def test_nothing_is_left_open_in_the_product() -> None:
    product = [(p, t) for p, t in texts() if p.is_relative_to(PACKAGE) or p.is_relative_to(ROOT / "build")]
    assert not [str(p) for p, t in product if OPEN_WORDS.search(t)]


def test_no_registry_is_named() -> None:
    assert not [str(p) for p, t in texts() if REGISTRIES.search(t)]


def test_print_belongs_to_the_command_line() -> None:
    wrong = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{module.name}:{node.lineno}")
    assert not [place for place in wrong if not place.startswith("mycoswarm.cli")]


def test_nothing_is_pickled_and_no_shell_string_is_run() -> None:
    wrong = []
    for module in modules():
        wrong += [f"{module.name}:{line}" for name, line in module.imports() if name in ("pickle", "shelve", "marshal")]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.keyword) and node.arg == "shell":
                wrong.append(f"{module.name}: shell=")
            if isinstance(node, ast.Attribute) and ast.unparse(node) in SHELLS:
                wrong.append(f"{module.name}: {node.attr}")
    assert not wrong
