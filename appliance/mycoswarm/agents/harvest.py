"""A folder of the owner's on the disk: which documents are in it, and the bytes of one. Nothing is parsed here.

Covered: no link is followed, in the folder or below it, also where one is put there between looking and reading;
devices and pipes are not opened; hidden files and folders, and the node's data folder, are left out wherever they are.
"""

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.extraction import SUFFIXES, Kind
from mycoswarm.store.holding import FileRow

MAX_FILES = 2000  # documents of one folder
MAX_FILE_BYTES = 32 << 20
MAX_FOLDER_BYTES = 512 << 20  # of all documents of one folder
MAX_ENTRIES = 200_000  # that are looked at
MAX_DEPTH = 32
MAX_PATH = 512  # characters, below the folder
MAX_OTHERS = 20  # kinds of files that are counted apart
_CLOSED = ("/proc", "/sys", "/dev", "/run", "/etc", "/boot")  # a machine's own, never documents

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(slots=True)
class Harvest:
    """What a look at a folder found. `found`: documents by path; `faults`: those that cannot be taken, and why;
    `others`: how many files of other kinds there are. `fault`: why not all of it was looked at."""

    found: dict[str, FileRow] = field(default_factory=dict)
    faults: dict[str, FileRow] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    fault: str | None = None
    bytes: int = 0


def checked_folder(text: str, data_folder: Path) -> Path:
    """The folder that a path names, every link followed.

    Raises:
        InputError: it is none, or one that is not for documents.
    """
    path = Path(text)
    if not path.is_absolute() or "\0" in text:
        raise _refused("the folder must be named by its absolute path")
    real = Path(os.path.realpath(path))
    if not real.is_dir():
        raise _refused(f"there is no folder {text[:MAX_PATH]!r}")
    if not str(real).isprintable():
        raise _refused("its path holds characters that cannot be shown")
    own = Path(os.path.realpath(data_folder))
    if real.is_relative_to(own):
        raise _refused("that is in the node's data folder, with its keys")
    if any(part.startswith(".") for part in real.parts):
        raise _refused("that is a hidden folder: its path has a name that begins with a dot")
    if real == Path("/") or any(real.is_relative_to(closed) for closed in _CLOSED):
        raise _refused("that is the system's, and holds no documents")
    return real


def kind_of(path: str) -> Kind | None:
    """How to read a file, by the end of its name; None where it is no document."""
    return SUFFIXES.get(os.path.splitext(path)[1].lower())  # noqa: PTH122  # a name below a folder, no path of this machine


def look(root: Path, data_folder: Path) -> Harvest:
    """Find the documents of a folder, by name. Blocks.

    Raises:
        InputError: the folder is not there any more, or cannot be opened.
    """
    harvest = Harvest()
    try:
        number = os.open(root, _FOLDER_FLAGS)
    except OSError as exc:
        raise InputError(f"{root} cannot be opened: {exc.strerror}", code="folder_unreadable") from exc
    try:
        own = _identity(data_folder.stat())
        for entries, (path, held) in enumerate(_walk(number, own, harvest)):
            if entries >= MAX_ENTRIES:
                harvest.fault = f"it holds more than {MAX_ENTRIES} files: the rest was not looked at"
                break
            if not _take(harvest, path, held):
                break
    finally:
        os.close(number)
    return harvest


def fetch(root: Path, path: str) -> tuple[bytes, os.stat_result]:
    """The bytes of one document, and how its file is now. Blocks.

    Raises:
        InputError: it cannot be read, is no plain file any more, or is too large.
    """
    try:
        with contextlib.ExitStack() as stack:
            number = os.open(root, _FOLDER_FLAGS)
            stack.callback(os.close, number)
            *folders, name = path.split("/")
            for part in folders:
                number = os.open(part, _FOLDER_FLAGS, dir_fd=number)
                stack.callback(os.close, number)
            file = stack.enter_context(os.fdopen(os.open(name, _FILE_FLAGS, dir_fd=number), "rb"))
            held = os.fstat(file.fileno())
            if not stat.S_ISREG(held.st_mode):
                raise InputError("it is no plain file")
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise InputError(f"it cannot be read: {(exc.strerror or 'unknown').lower()}") from exc
    if len(data) > MAX_FILE_BYTES:
        raise InputError(_TOO_LARGE)
    return data, held


_TOO_LARGE = f"it is larger than {MAX_FILE_BYTES >> 20} MiB"


def _take(harvest: Harvest, path: str, held: os.stat_result | None) -> bool:
    """Note a file; False where no more are taken."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122  # as above
    if kind_of(path) is None:
        known = suffix if suffix.isprintable() and 1 < len(suffix) <= 12 else "others"
        harvest.others[known if known in harvest.others or len(harvest.others) < MAX_OTHERS else "others"] += 1
        return True
    if len(harvest.found) + len(harvest.faults) >= MAX_FILES:
        harvest.fault = f"it holds more than {MAX_FILES} documents: the rest is left out"
        return False
    if not path.isprintable() or len(path) > MAX_PATH:
        shown = ascii(path)[1:-1][:MAX_PATH]
        harvest.faults[shown] = _fault(shown, "its path is too long, or holds characters that cannot be shown")
    elif held is None:
        harvest.faults[path] = _fault(path, "it is a link, and links are not followed")
    elif not stat.S_ISREG(held.st_mode):
        harvest.faults[path] = _fault(path, "it is no plain file")
    elif held.st_size > MAX_FILE_BYTES:
        harvest.faults[path] = _fault(path, _TOO_LARGE)
    elif harvest.bytes + held.st_size > MAX_FOLDER_BYTES:
        harvest.fault = f"its documents take more than {MAX_FOLDER_BYTES >> 20} MiB: the rest is left out"
        return False
    else:
        harvest.bytes += held.st_size
        harvest.found[path] = FileRow(path=path, bytes=held.st_size, mtime_ns=held.st_mtime_ns)
    return True


def _walk(
    number: int, own: tuple[int, int], harvest: Harvest, above: str = "", depth: int = 0
) -> Iterator[tuple[str, os.stat_result | None]]:
    """Everything under an open folder in the order of the alphabet, None for a link. Each folder is opened from the one
    above it, so that no link can come between."""
    try:
        with os.scandir(number) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        harvest.fault = "a folder in it cannot be read"
        return
    for entry in entries:
        path = f"{above}{entry.name}"
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_symlink():
                yield path, None
                continue
            held = entry.stat(follow_symlinks=False)
            if not stat.S_ISDIR(held.st_mode):
                yield path, held
                continue
            if _identity(held) == own:
                continue
            inner = os.open(entry.name, _FOLDER_FLAGS, dir_fd=number)
        except OSError:
            harvest.fault = "a folder in it cannot be opened"
            continue
        try:
            if depth + 1 < MAX_DEPTH:
                yield from _walk(inner, own, harvest, f"{path}/", depth + 1)
            else:
                harvest.fault = f"it has folders deeper than {MAX_DEPTH}: those are left out"
        finally:
            os.close(inner)


def _identity(held: os.stat_result) -> tuple[int, int]:
    return held.st_dev, held.st_ino


def _fault(path: str, why: str) -> FileRow:
    return FileRow(path=path, bytes=0, mtime_ns=0, fault=why)


def _refused(why: str) -> InputError:
    return InputError(why, hint="Name a folder of documents of yours.", code="folder_refused")
