"""Imports point only downwards; each third-party package has its homes."""

import sys

from house.tree import LAYERS, modules

# Where each third-party package may be imported. A second home is a decision, not an accident.
HOMES = {
    "anyio": {"servers"},
    "bs4": {"sandbox"},
    "click": {"cli"},
    "cronsim": {"agents"},
    "cryptography": {"swarm"},
    "gguf": {"catalog"},
    "h11": {"external"},
    "httpx2": {"servers"},
    "jinja2": {"stage"},
    "llama_cpp": {"stage", "hardware"},
    "mcp": {"api", "servers"},
    "mcp_types": {"api", "servers"},
    "msgspec": {
        "wire",
        "catalog",
        "swarm",
        "routing",
        "stage",
        "store",
        "external",
        "sandbox",
        "servers",
        "agents",
        "api",
        "daemon",
    },
    "numpy": {"wire", "catalog", "routing", "stage", "store"},
    "pydantic": {"servers"},
    "psutil": {"hardware", "swarm"},
    "pynvml": {"hardware"},
    "pypdf": {"sandbox"},
    "rich": {"cli"},
    "segno": {"api"},
    "sqlite_utils": {"store"},
    "starlette": {"api"},
    "tomli_w": {"cli"},
    "uvicorn": {"swarm", "api"},
    "uvloop": {"stage"},
    "zeroconf": {"swarm"},
    "zttp": {"swarm"},
}


def test_every_room_has_a_layer() -> None:
    assert {module.room for module in modules() if module.room} <= set(LAYERS)


def test_imports_point_only_downwards() -> None:
    wrong = []
    for module in modules():
        for name, line in module.imports():
            parts = name.split(".")
            if parts[0] != "mycoswarm" or len(parts) < 2 or parts[1] not in LAYERS or not module.room:
                continue
            same_room = parts[1] == module.room
            top = {parts[1], module.room} <= {"daemon", "cli"}
            if not same_room and not top and LAYERS[parts[1]] >= LAYERS[module.room]:
                wrong.append(f"{module.name}:{line} imports {name}")
    assert not wrong


def test_no_relative_imports() -> None:
    import ast

    wrong = [m.name for m in modules() for node in ast.walk(m.tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert not wrong


def test_third_party_packages_stay_in_their_homes() -> None:
    wrong = set()
    for module in modules():
        for name, line in module.imports():
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top == "mycoswarm":
                continue
            if module.room not in HOMES.get(top, set()):
                wrong.add(f"{module.name}:{line} imports {top}")
    assert not wrong
