"""The source tree as the house tests see it: parsed once, never imported."""

import ast
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "appliance" / "mycoswarm"

LAYERS = {
    "base": 0,
    "wire": 1,
    "hardware": 1,
    "catalog": 1,
    "swarm": 2,
    "routing": 3,
    "stage": 4,
    "store": 4,
    "external": 4,
    "sandbox": 4,
    "chat": 5,
    "servers": 5,
    "agents": 6,
    "api": 7,
    "daemon": 8,
    "cli": 8,
}


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file. `room` is its package or, at the top, its own name."""

    path: Path
    name: str
    room: str
    lines: int
    tree: ast.Module

    def imports(self) -> list[tuple[str, int]]:
        """Absolute names imported anywhere in the file, with their line numbers."""
        found = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.append((node.module, node.lineno))
                found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        return found


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        text = path.read_text(encoding="utf-8")
        room = parts[0] if len(parts) > 1 or parts[0] != "__init__" else ""
        name = ".".join(("mycoswarm", *parts)).removesuffix(".__init__")
        found.append(Module(path, name, room, len(text.splitlines()), ast.parse(text)))
    return tuple(found)


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git keeps or would keep."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return tuple(path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file())


@cache
def texts() -> tuple[tuple[Path, str], ...]:
    """Every kept file that is text."""
    found = []
    for path in tracked():
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return tuple(found)
