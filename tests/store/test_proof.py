"""The program in docs/ledger.md checks an export with nothing of ours, and finds what was tampered with."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from house.tree import ROOT
from store.books import key, ledger_at

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "ledger.md").read_text(encoding="utf-8")
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def checked(folder: Path, lines: list[str]) -> "subprocess.CompletedProcess[str]":
    public = serialization.load_der_public_key(key().public_der)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(pem)
    (folder / "ledger.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    argv = [sys.executable, "-I", "-c", PROGRAM]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=30)


def exported(folder: Path) -> list[str]:
    with ledger_at(folder / "node.db") as (ledger, _):
        for number in range(4):
            name = None if number % 2 else f"r{number}"
            ledger.append("answer", {"number": number, "text": "grün ☂"}, request_id=name, now=1.25 + number)
        return list(ledger.export())


def test_the_page_s_program_finds_a_sound_export_sound(tmp_path: Path) -> None:
    done = checked(tmp_path, exported(tmp_path))
    assert (done.returncode, done.stdout) == (0, "4 rows, all sound\n"), done.stderr


TAMPERING: dict[str, Callable[[list[str]], list[str]]] = {
    "changed": lambda lines: [line.replace('\\"number\\":2', '\\"number\\":9') for line in lines],
    "removed": lambda lines: [lines[0], *lines[2:]],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "cut off": lambda lines: [*lines[:3], lines[4]],
    "without a head": lambda lines: lines[:4],
    "signed otherwise": lambda lines: [line.replace('"signature":"3', '"signature":"4', 1) for line in lines],
}


@pytest.mark.parametrize("how", TAMPERING)
def test_the_page_s_program_finds_a_tampered_export_unsound(tmp_path: Path, how: str) -> None:
    lines = TAMPERING[how](exported(tmp_path))
    assert checked(tmp_path, lines).returncode != 0
