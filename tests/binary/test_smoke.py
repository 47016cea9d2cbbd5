"""The packed program, where it was built: tried out as a stranger would."""

import platform
import subprocess

import pytest

from house.tree import ROOT

BINARY = ROOT / "build" / "out" / f"mycoswarm-node-{platform.system().lower()}-{platform.machine()}"
DOWNLOAD_BYTES = 45_000_000

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BINARY.exists(), reason="there is no binary in build/out: build/binary makes one"),
]


def test_the_binary_passes_its_smoke_test() -> None:
    done = subprocess.run([ROOT / "build" / "smoke", BINARY], capture_output=True, text=True, timeout=900, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all is well\n")


def test_the_download_is_small() -> None:
    assert BINARY.with_name(f"{BINARY.name}.xz").stat().st_size <= DOWNLOAD_BYTES


def test_the_sums_are_those_of_the_files() -> None:
    words = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    done = subprocess.run(words, cwd=BINARY.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
