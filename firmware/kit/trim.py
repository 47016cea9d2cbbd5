"""Takes kernel modules out of a root folder that no Pi and no virtual machine of ours needs: `trim.py ROOT KEEP`."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path


def kept(names: dict[str, list[str]], patterns: list[str]) -> set[str]:
    """Of modules and what each needs, those that a pattern names, with all that they need."""
    shapes = [re.compile(fnmatch.translate(f"kernel/{pattern}")) for pattern in patterns]
    found: set[str] = set()
    waiting = [name for name in names if any(shape.match(name) for shape in shapes)]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += names[name]
    return found


def trim(root: Path, patterns: list[str]) -> None:
    """Remove all others, and list anew what there is."""
    (folder,) = (root / "usr/lib/modules").iterdir()
    lines = (folder / "modules.dep").read_text().splitlines()
    names = {name: needs.split() for name, _, needs in (line.partition(":") for line in lines)}
    stay = kept(names, patterns)
    before = after = 0
    for name in names:
        size = (folder / name).stat().st_size
        before += size
        if name in stay:
            after += size
        else:
            (folder / name).unlink()
    subprocess.run(["depmod", "-b", str(root), folder.name], check=True)
    print(f"kernel modules: {len(stay)} of {len(names)} stay, {after / 1e6:.1f} of {before / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    listed = Path(sys.argv[2]).read_text().split("\n")
    trim(Path(sys.argv[1]), [line.strip() for line in listed if line.strip() and not line.startswith("#")])
