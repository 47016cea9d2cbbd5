"""Which libraries may become back ends of llama.cpp."""

import ctypes
from pathlib import Path

import pytest
from llama_cpp import llama_cpp

from mycoswarm.hardware.plugin import FOLDER, FOLDER_NAME, find_plugins, load_back_ends, plugin_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "plugins"
    place.mkdir(mode=0o755)
    for name in ("libggml-cuda.so", "libother.so", "libggml-sycl.so"):
        (place / name).write_bytes(b"")
        (place / name).chmod(0o644)
    return place


def test_only_libraries_of_ggml_are_taken_by_name(folder: Path) -> None:
    found, refused = find_plugins(folder)
    assert [path.name for path in found] == ["libggml-cuda.so", "libggml-sycl.so"] and not refused


def test_a_library_that_others_may_change_is_refused_and_named(folder: Path) -> None:
    (folder / "libggml-cuda.so").chmod(0o666)
    found, refused = find_plugins(folder)
    assert [path.name for path in found] == ["libggml-sycl.so"]
    assert len(refused) == 1 and "libggml-cuda.so" in refused[0]


def test_a_folder_that_others_may_write_to_gives_nothing(folder: Path) -> None:
    folder.chmod(0o777)
    found, refused = find_plugins(folder)
    assert not found and len(refused) == 2


@pytest.mark.parametrize("place", [Path("nowhere"), Path("/no/such/folder")])
def test_no_folder_is_no_plugin(place: Path) -> None:
    assert find_plugins(place) == ((), ())


def test_the_owner_may_name_the_folder() -> None:
    assert plugin_folder({}) == FOLDER
    assert plugin_folder({FOLDER_NAME: "/opt/more"}) == Path("/opt/more")


def test_a_llama_cpp_that_has_its_back_ends_loads_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    library: ctypes.CDLL = llama_cpp._lib
    before = library.ggml_backend_dev_count()
    load_back_ends(library, folder, folder)
    assert library.ggml_backend_dev_count() == before > 0
    assert "not loaded" not in capfd.readouterr().err
