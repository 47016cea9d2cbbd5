"""What is in the binary, for machines: a CycloneDX bill of materials, and the sums of the files."""

import hashlib
import json
from pathlib import Path

from freeze import NAME
from target import Target

from bench import CACHE, OUT, PYTHON, run, say

TOOL = CACHE / "bill"
PACKAGES = ("cyclonedx-bom==7.5.0",)
CHECK = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.from_version(sys.argv[2])).validate_str(pathlib.Path(sys.argv[1]).read_text())
sys.exit(str(fault) if fault else 0)
"""


def write_bill(target: Target, made: Path, libraries: tuple[Path, ...]) -> Path:
    """The official tool lists the Python packages; what it cannot see (llama.cpp, CPython, libraries) is added."""
    place = made.with_name(f"{made.name}.cdx.json")
    words = ["environment", "--output-reproducible", "--output-format", "JSON", "--output-file", place]
    tool = TOOL / "bin" / "cyclonedx-py"
    if not tool.exists():
        # Apart from Nuitka, which would pack what it finds here.
        run("making the bill's environment", ["python3", "-m", "venv", "--without-pip", TOOL])
        run(
            "installing cyclonedx-bom", [PYTHON, "-m", "pip", "--python", TOOL / "bin" / "python", "install", *PACKAGES]
        )
    run("listing what is inside", [tool, *words, target.program / "bin" / "python"])
    bill = json.loads(place.read_text("utf-8"))
    listed = json.loads((target.raw / "mycoswarm" / "licenses" / "list.json").read_text("utf-8"))
    for part in listed:
        if part["kind"] != "python":
            bill["components"].append(_component(part))
    for library in libraries:
        sum_ = hashlib.sha256(library.read_bytes()).hexdigest()
        bill["components"].append(
            {
                "type": "file",
                "bom-ref": library.name,
                "name": library.name,
                "hashes": [{"alg": "SHA-256", "content": sum_}],
            }
        )
    bill["components"].sort(key=lambda component: str(component["bom-ref"]))
    place.write_text(json.dumps(bill, indent=1) + "\n", "utf-8")
    run("checking that list", [TOOL / "bin" / "python", "-c", CHECK, place, bill["specVersion"]])
    say(f"bill of materials: {len(bill['components'])} components")
    return target


def write_sums() -> None:
    """SHA256SUMS, as sha256sum checks it, of all that was made, for whatever target."""
    paths = [path for path in OUT.glob(f"{NAME}-*") if path.is_file()]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(paths)]
    (OUT / "SHA256SUMS").write_text("".join(lines), "utf-8")


def _component(part: dict[str, str]) -> dict[str, object]:
    found: dict[str, object] = {
        "type": "library",
        "bom-ref": f"{part['name']}=={part['version']}",
        "name": part["name"],
        "version": part["version"],
    }
    if part["licence"] != "see text":
        found["licenses"] = [{"license": {"id": part["licence"]}}]
    return found
