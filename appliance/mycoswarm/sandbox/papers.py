"""The file tools, as they work inside the sandbox. One workspace; a path that leads out of it is refused.

Covered: `..`, absolute paths, links in any part of a path, devices and pipes. Where two calls work on one workspace at
once, a link can be changed after it was looked at; then the sandbox alone decides, which has no other files to write.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mycoswarm.base.errors import InputError
from mycoswarm.sandbox.toolset import MAX_FILE

MAX_ENTRIES = 1000  # that a list shows
MAX_HITS = 200
MAX_LOOKED = 20_000  # files that a search opens
MAX_SEARCHED_BYTES = 4 << 20  # of one file
MAX_LINE = 300  # characters of a hit that are shown


class Papers:
    """The files under `root`."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.realpath(root))

    def read(self, path: str) -> str:
        """A text file's text.

        Raises:
            InputError: it is none, too long, or outside.
        """
        return self._text(self._inside(path), path)

    def write(self, path: str, text: str) -> str:
        """Put a text into a file; folders on the way are made.

        Raises:
            InputError: it cannot be written there.
        """
        target = self._inside(path)
        if target == self._root or target.is_dir():
            raise _wrong("that is a folder")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            number = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
                self._regular(number)
                file.write(text)
        except OSError as exc:
            raise _wrong(_words(exc)) from exc
        return f"wrote {len(text)} characters to {self._name(target)}"

    def edit(self, path: str, old: str, new: str) -> str:
        """Replace the one place where `old` stands.

        Raises:
            InputError: it stands nowhere or more than once, or the file cannot be edited.
        """
        text = self.read(path)
        count = text.count(old)
        if count != 1:
            raise _wrong("that text is not in the file" if count == 0 else f"that text is there {count} times")
        self.write(path, text.replace(old, new, 1))
        return f"edited {self._name(self._inside(path))}"

    def listing(self, path: str = ".") -> str:
        """All files under a folder with their sizes, one a line; folders end with a slash, links are not followed.

        Raises:
            InputError: there is no such folder inside.
        """
        lines: list[str] = []
        for entry in self._walk(self._folder(path)):
            if len(lines) >= MAX_ENTRIES:
                lines.append("... and more")
                break
            name = self._name(Path(entry.path))
            is_folder = entry.is_dir(follow_symlinks=False)
            lines.append(f"{name}/" if is_folder else f"{name} ({entry.stat(follow_symlinks=False).st_size} bytes)")
        return "\n".join(lines) or "there are no files"

    def search(self, text: str, path: str = ".") -> str:
        """Lines that hold `text`, each as "file:line: text".

        Raises:
            InputError: there is no such folder inside.
        """
        hits: list[str] = []
        for looked, entry in enumerate(self._walk(self._folder(path))):
            if looked >= MAX_LOOKED or len(hits) >= MAX_HITS:
                hits.append("... and perhaps more")
                break
            if entry.is_file(follow_symlinks=False):
                hits += self._hits(Path(entry.path), text)
        return "\n".join(hits[: MAX_HITS + 1]) or "found nowhere"

    def _hits(self, path: Path, text: str) -> list[str]:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SEARCHED_BYTES)
        except OSError:
            return []  # gone meanwhile, or not readable to this user
        if b"\0" in data:
            return []
        lines = data.decode("utf-8", "replace").splitlines()
        name = self._name(path)
        return [f"{name}:{number}: {line.strip()[:MAX_LINE]}" for number, line in enumerate(lines, 1) if text in line]

    def _inside(self, path: str) -> Path:
        """The real path, every link followed."""
        found = Path(os.path.realpath(self._root / path))
        if not found.is_relative_to(self._root):
            error = _wrong("that path leads out of the workspace, which is not allowed")
            error.code = "outside_workspace"
            raise error
        return found

    def _folder(self, path: str) -> Path:
        found = self._inside(path)
        if not found.is_dir():
            raise _wrong("there is no such folder")
        return found

    def _text(self, found: Path, path: str) -> str:
        if found.is_dir():
            raise _wrong("that is a folder")
        try:
            number = os.open(found, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(number, "rb") as file:
                self._regular(number)
                data = file.read(4 * MAX_FILE + 1)
        except OSError as exc:
            raise _wrong(_words(exc)) from exc
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise _wrong("the file is not text, or too long") from exc
        if len(text) > MAX_FILE:
            raise _wrong(f"the file is longer than {MAX_FILE} characters")
        if "\0" in text:
            raise _wrong("the file is not text")
        return text

    def _regular(self, number: int) -> None:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise _wrong("that is no plain file")

    def _walk(self, folder: Path) -> Iterator["os.DirEntry[str]"]:
        """Everything under a folder in the order of the alphabet; no links followed."""
        waiting = [folder]
        while waiting:
            try:
                with os.scandir(waiting.pop()) as found:
                    entries = sorted(found, key=lambda entry: entry.name)
            except OSError:
                continue  # gone meanwhile, or not readable to this user
            yield from entries
            waiting += [Path(entry.path) for entry in reversed(entries) if entry.is_dir(follow_symlinks=False)]

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root)).encode("utf-8", "replace").decode()


def _words(exc: OSError) -> str:
    if isinstance(exc, FileNotFoundError):
        return "no such file"
    return (exc.strerror or "it cannot be opened").lower()


def _wrong(why: str) -> InputError:
    return InputError(why, hint="list_files shows what there is.", code="file_refused")
