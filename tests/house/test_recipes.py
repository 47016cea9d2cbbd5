"""The recipes in build/: what is missing is named, and nothing is done twice."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from house.tree import ROOT, texts

NEEDED = ("sh", "cat", "dirname", "sha256sum", "mkdir", "flock", "tail", "uname", "grep", "cut")
COPIED = ("constraints.txt", "pyproject.toml", "build/venv", "build/run", "build/capture.py")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A copy of what a setup reads, and a bin folder with little in it."""
    for name in (*COPIED, "appliance/mycoswarm/stage/capture.c"):
        target = tmp_path / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in NEEDED:
        found = shutil.which(name)
        assert found is not None, name
        (tools / name).symlink_to(found)
    return tmp_path


def setup(bare: Path, *more: tuple[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run the recipe with these tools beside the few: (name, script)."""
    for name, script in more:
        path = bare / "bin" / name
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)
    return subprocess.run(
        [str(bare / "tree" / "build" / "run"), "version"],
        env={"PATH": str(bare / "bin"), "HOME": str(bare)},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_machine_without_python_is_told_the_package(bare: Path) -> None:
    done = setup(bare)
    assert done.returncode != 0 and "apt install python3" in done.stderr


def test_a_python_that_is_too_old_is_told(bare: Path) -> None:
    done = setup(bare, ("python3", "exit 1"))
    assert done.returncode != 0 and "3.11" in done.stderr


def test_a_python_without_venv_is_told_the_package(bare: Path) -> None:
    done = setup(bare, ("python3", 'case "$2" in *ensurepip*) exit 1;; esac; exit 0'))
    assert done.returncode != 0 and "apt install python3-venv" in done.stderr


def test_a_machine_without_a_compiler_is_told_the_package(bare: Path) -> None:
    done = setup(bare, ("python3", "exit 0"))
    assert done.returncode != 0 and "apt install g++" in done.stderr


def test_a_setup_that_cannot_fetch_says_where_its_log_is(bare: Path) -> None:
    real = f'[ "$1" = -c ] && exit 0\nexec {shutil.which("mkdir")} -p .venv/bin'
    done = setup(bare, ("python3", real), ("c++", "exit 0"), ("cc", "exit 0"))
    assert done.returncode != 0 and "build/out/venv-run.log" in done.stderr


@pytest.mark.skipif(not (ROOT / ".venv" / "mycoswarm-test").exists(), reason="this run was not set up by build/test")
def test_a_second_setup_does_nothing() -> None:
    before = (ROOT / ".venv" / "mycoswarm-test").stat().st_mtime_ns
    done = subprocess.run([str(ROOT / "build" / "venv"), "test"], env=os.environ, timeout=30, capture_output=True)
    assert done.returncode == 0 and not done.stderr
    assert (ROOT / ".venv" / "mycoswarm-test").stat().st_mtime_ns == before


def test_shell_files_name_no_shell_but_sh() -> None:
    for path in (ROOT / "build").iterdir():
        if path.is_file() and os.access(path, os.X_OK) and path.suffix != ".py":
            assert path.read_text().startswith("#!/bin/sh\n"), path


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (apt install shellcheck)")
def test_shellcheck_finds_nothing_in_any_shell_file() -> None:
    files = [str(path) for path, text in texts() if text.startswith("#!/bin/sh")]
    assert len(files) >= 8
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_binary_s_recipe_names_all_that_is_missing(bare: Path) -> None:
    target = bare / "tree" / "build" / "binary"
    shutil.copy2(ROOT / "build" / "binary", target)
    done = subprocess.run([target], env={"PATH": str(bare / "bin")}, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    for package in ("cmake", "ninja-build", "ccache", "patchelf", "g++", "xz-utils", "python3"):
        assert package in done.stderr
    assert not (bare / "tree" / "build" / "out").exists()
