"""Reads a machine's own files under a root folder, so that a recorded machine is just another root.

Nothing here raises for what it finds: a file that is absent, unreadable or not text is None. Every
read is bounded, and every word that leaves is one printable line (`clean`), because facts travel to
terminals, web pages and other machines.
"""

from collections.abc import Mapping
from pathlib import Path

# /proc/cpuinfo of a 512-thread server is about 1 MB; nothing else here is near that.
_READ_LIMIT_BYTES = 4 << 20
# Names in one folder of /sys; the largest seen is one entry per CPU thread.
_NAMES_LIMIT = 4096
WORD_LIMIT = 200


def read_text(root: Path, path: str) -> str | None:
    """The file's text, at most 4 MiB of it; None when it cannot be read. `path` is relative to the root."""
    try:
        with (root / path).open("rb") as file:
            return file.read(_READ_LIMIT_BYTES).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return None


def read_word(root: Path, path: str) -> str | None:
    """The file as one clean line; None when absent or empty."""
    return clean(read_text(root, path))


def read_number(root: Path, path: str) -> int | None:
    """The file's one whole number, decimal or with 0x in front; None when it is not one."""
    return parse_number(read_text(root, path))


def list_names(root: Path, path: str) -> tuple[str, ...]:
    """The names in a folder, sorted; empty when it cannot be read."""
    try:
        return tuple(sorted(entry.name for entry in (root / path).iterdir())[:_NAMES_LIMIT])
    except (OSError, ValueError):
        return ()


def has(root: Path, path: str) -> bool:
    """Whether the file or folder is there, as far as we may look."""
    try:
        return (root / path).exists()
    except (OSError, ValueError):
        return False


def parse_number(text: str | None) -> int | None:
    """One whole number within 64 bits, decimal or hexadecimal with 0x; None for anything else."""
    if text is None:
        return None
    word = text.strip("\0 \t\r\n")
    # 20 characters hold every 64-bit number; int() of a long text takes quadratic time.
    if not word.isascii() or len(word) > 20 or "_" in word:
        return None
    try:
        number = int(word, 16 if word[:2].lower() == "0x" else 10)
    except ValueError:
        return None
    return number if abs(number) < 1 << 64 else None


def parse_table(text: str | None, separator: str = ":") -> Mapping[str, str]:
    """Lines of "key<separator>value" as a dict; the first of equal keys wins, other lines are left out."""
    found: dict[str, str] = {}
    for line in (text or "").splitlines():
        key, middle, value = line.partition(separator)
        if middle and key.strip():
            found.setdefault(key.strip(), value.strip())
    return found


def clean(text: str | None) -> str | None:
    """One printable line of at most 200 characters with single spaces; None when nothing is left."""
    if text is None:
        return None
    printable = "".join(character if character.isprintable() else " " for character in text[: 4 * WORD_LIMIT])
    return " ".join(printable.split())[:WORD_LIMIT].strip() or None
