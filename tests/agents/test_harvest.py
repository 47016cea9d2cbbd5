"""A folder is looked at without following links, and what is not for documents is refused."""

import os
import socket
from pathlib import Path

import pytest

from mycoswarm.agents.harvest import MAX_DEPTH, MAX_FILE_BYTES, MAX_FILES, MAX_FOLDER_BYTES, checked_folder, fetch, look
from mycoswarm.base.errors import InputError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    return folder


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_documents_are_found_below_the_folder_and_others_are_counted(root: Path, data: Path) -> None:
    for name in ("b.txt", "a/c.MD", "a/d.pdf", "x.jpg", "y.jpg", "z", ".hidden.txt", ".git/e.txt"):
        write(root / name)
    found = look(root, data)
    assert list(found.found) == ["a/c.MD", "a/d.pdf", "b.txt"] and found.fault is None and not found.faults
    assert dict(found.others) == {".jpg": 2, "others": 1}
    assert fetch(root, "a/c.MD")[0] == b"x"


def test_links_pipes_and_sockets_are_named_and_not_opened(root: Path, data: Path, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret" / "s.txt", "secret")
    (root / "link.txt").symlink_to(secret)
    (root / "inner.txt").symlink_to(root / "own.txt")
    (root / "folder").symlink_to(secret.parent)
    os.mkfifo(root / "pipe.txt")
    write(root / "own.txt")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(root / "sock.txt"))  # an address is short, where the folder's path may be long
        found = look(root, data)
    assert list(found.found) == ["own.txt"]
    why = {path: row.fault for path, row in found.faults.items()}
    assert set(why) == {"link.txt", "inner.txt", "pipe.txt", "sock.txt"}
    assert "link" in why["link.txt"] and "link" in why["inner.txt"] and "no plain file" in why["pipe.txt"]
    assert dict(found.others) == {"others": 1}


@pytest.mark.parametrize("path", ["a/s.txt", "s.txt"])
def test_a_link_that_is_put_there_after_the_look_is_not_followed(
    root: Path, data: Path, tmp_path: Path, path: str
) -> None:
    secret = write(tmp_path / "secret" / "s.txt", "secret")
    write(root / path)
    assert path in look(root, data).found
    if "/" in path:
        (root / path).unlink()
        (root / "a").rmdir()
        (root / "a").symlink_to(secret.parent)
    else:
        (root / path).unlink()
        (root / path).symlink_to(secret)
    with pytest.raises(InputError, match="cannot be read"):
        fetch(root, path)


def test_a_pipe_that_is_put_there_after_the_look_keeps_nobody_waiting(root: Path) -> None:
    os.mkfifo(root / "a.txt")
    with pytest.raises(InputError, match="no plain file"):
        fetch(root, "a.txt")


def test_the_data_folder_is_left_out_wherever_it_is(root: Path) -> None:
    write(root / "state" / "key.txt")
    write(root / "a.txt")
    assert list(look(root, root / "state").found) == ["a.txt"]


@pytest.mark.parametrize("place", ["", "models", "../data/models"])
def test_the_data_folder_and_what_is_in_it_are_refused(data: Path, place: str) -> None:
    (data / "models").mkdir()
    with pytest.raises(InputError, match="data folder"):
        checked_folder(str(data / place), data)


def test_folders_that_are_no_place_for_documents_are_refused(root: Path, data: Path, tmp_path: Path) -> None:
    (root / ".ssh" / "keys").mkdir(parents=True)
    (root / "link").symlink_to(data)
    (root / "new\nline").mkdir()
    write(root / "file.txt")
    for path in ("/", "/etc", "/proc/self", "/sys", "/dev/shm", "docs", "", f"{root}/none", f"{root}/file.txt"):
        with pytest.raises(InputError):
            checked_folder(path, data)
    for path in (root / ".ssh", root / ".ssh" / "keys", root / "link", root / "new\nline", f"{root}/a\0b"):
        with pytest.raises(InputError):
            checked_folder(str(path), data)
    (tmp_path / "other").symlink_to(root)
    assert checked_folder(str(tmp_path / "other"), data) == root


def test_names_that_cannot_be_shown_are_told_escaped(root: Path, data: Path) -> None:
    for name in (b"a\x1b[2J.txt", b"b\xff.txt", b"c\n.txt"):
        (root / os.fsdecode(name)).touch()
    found = look(root, data)
    assert not found.found and len(found.faults) == 3
    assert all(path.isprintable() and path.isascii() for path in found.faults)


def test_a_file_that_is_too_large_is_told_and_not_read(root: Path, data: Path) -> None:
    with (root / "a.txt").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    found = look(root, data)
    assert "MiB" in found.faults["a.txt"].fault and not found.found
    with pytest.raises(InputError, match="MiB"):
        fetch(root, "a.txt")


@pytest.mark.slow
def test_there_are_bounds_to_what_is_taken(root: Path, data: Path) -> None:
    deep = root
    for _ in range(MAX_DEPTH + 5):
        deep = deep / "d"
    write(deep / "lost.txt")
    assert "deeper" in str(look(root, data).fault)
    for number in range(MAX_FILES + 10):
        write(root / f"{number}.txt")
    found = look(root, data)
    assert len(found.found) == MAX_FILES and "documents" in str(found.fault)
    for number in range(20):
        with (root / f"{number}.txt").open("wb") as file:
            file.truncate(MAX_FILE_BYTES)
    found = look(root, data)
    assert found.bytes <= MAX_FOLDER_BYTES and "MiB" in str(found.fault)


def test_a_folder_that_is_gone_is_an_error_and_not_empty(root: Path, data: Path) -> None:
    root.rmdir()
    with pytest.raises(InputError) as caught:
        look(root, data)
    assert caught.value.code == "folder_unreadable"
