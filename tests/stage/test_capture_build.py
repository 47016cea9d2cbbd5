"""build/capture.py: compiles when needed, leaves nothing half-done, and names the missing system package."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from house.tree import ROOT
from mycoswarm.api.dashboard import web_folder

SCRIPT = Path(__file__).resolve().parents[2] / "build" / "capture.py"


def load_script() -> ModuleType:
    """build/ is no package: it holds recipes."""
    spec = importlib.util.spec_from_file_location("capture_build", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


capture_build = load_script()


def make_source(folder: Path, text: str = "int answer(void) { return 42; }\n") -> tuple[Path, Path]:
    source = folder / "some.c"
    source.write_text(text)
    return source, folder / "some.so"


@pytest.mark.slow
def test_it_compiles_once_and_again_only_when_the_source_is_newer(tmp_path: Path) -> None:
    source, target = make_source(tmp_path)
    environment = dict(os.environ)
    assert capture_build.compile_capture(source, target, environment)
    assert not capture_build.compile_capture(source, target, environment)
    later_ns = target.stat().st_mtime_ns + 10**9
    os.utime(source, ns=(later_ns, later_ns))
    assert capture_build.compile_capture(source, target, environment)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["some.c", "some.so"]


def test_a_source_that_does_not_compile_leaves_no_library_and_shows_the_compilers_words(tmp_path: Path) -> None:
    source, target = make_source(tmp_path, "this is not C\n")
    with pytest.raises(capture_build.CompileError, match=r"(?s)failed on some\.c.*error.*build-essential"):
        capture_build.compile_capture(source, target, dict(os.environ))
    assert [path.name for path in tmp_path.iterdir()] == ["some.c"]


def test_without_a_compiler_the_error_names_the_package_to_install(tmp_path: Path) -> None:
    source, target = make_source(tmp_path)
    with pytest.raises(capture_build.CompileError, match=r"looked for cc, gcc, clang.*apt install build-essential"):
        capture_build.compile_capture(source, target, {"PATH": str(tmp_path)})


def test_a_compiler_named_in_cc_is_the_only_one_tried(tmp_path: Path) -> None:
    with pytest.raises(capture_build.CompileError, match=r"looked for no-such-compiler\)"):
        capture_build.find_compiler({"CC": "no-such-compiler", "PATH": os.environ["PATH"]})


def test_a_compiler_may_come_with_words_of_its_own(tmp_path: Path) -> None:
    found = capture_build.find_compiler({"CC": "cc -g -O0", "PATH": os.environ["PATH"]})
    assert found[1:] == ["-g", "-O0"]


def test_a_compiler_that_cannot_be_run_is_said_so(tmp_path: Path) -> None:
    source, target = make_source(tmp_path)
    broken = tmp_path / "cc"
    broken.write_bytes(b"\x7fELF is not this")
    broken.chmod(0o755)
    with pytest.raises(capture_build.CompileError, match="could not be run"):
        capture_build.compile_capture(source, target, {"PATH": str(tmp_path)})


def test_as_a_script_it_needs_nothing_but_python(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(SCRIPT)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "libcapture.so" in done.stderr


def test_the_source_compiles_without_a_warning(tmp_path: Path) -> None:
    environment = dict(os.environ)
    compiler = capture_build.find_compiler(environment)
    flags = [*capture_build.FLAGS, "-Werror", "-Wpedantic", "-Wconversion", "-o", str(tmp_path / "some.so")]
    done = subprocess.run(
        [*compiler, *flags, str(capture_build.SOURCE)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_wheel_has_the_dashboard_and_an_editable_install_keeps_the_checkouts() -> None:
    hook = capture_build.CaptureHook.__new__(capture_build.CaptureHook)  # what hatch passes is not looked at
    packed: dict[str, Any] = {"force_include": {}}
    hook.initialize("standard", packed)
    assert packed["force_include"] == {str(ROOT / "web"): "mycoswarm/web"} and (ROOT / "web" / "index.html").is_file()
    linked: dict[str, Any] = {"force_include": {}}
    hook.initialize("editable", linked)
    assert not linked["force_include"] and web_folder() == ROOT / "web"
