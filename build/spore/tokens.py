"""spore's tokenizer: byte-level BPE, trained here and encoded here, in the form that llama.cpp calls "gpt2" / "qwen2".

A word has the same pieces wherever it stands: merges are learned inside runs of letters only, and a leading space (or
a full stop, slash, quote) is merged on at the very end of the table. So " notes", "/notes" and "notes" all end in the
pieces of "notes", and a very small model can copy a file's name from a sentence into JSON.
"""

import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKS = ("<tools>", "</tools>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
PRE_TOKENIZER = "qwen2"
# White_Space of Unicode, as llama.cpp's table has it; Python's \s also takes 0x1c-0x1f.
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


@dataclass(frozen=True, slots=False)
class Tokenizer:
    """`pieces[id]` is a token's text in the byte alphabet; `merges` are in order of rank, special tokens come last."""

    pieces: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token text to id."""
        return {piece: at for at, piece in enumerate(self.pieces)}

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _known(self) -> dict[str, tuple[int, ...]]:
        return {}

    def encode(self, text: str, *, parse_special: bool = True) -> list[int]:
        """Token ids; without `parse_special`, control tokens are plain text (marks never are, as in llama.cpp)."""
        found: list[int] = []
        for part in re.split(_specials(parse_special), text):
            if part in self.ids and (part in MARKS or (part in CONTROL and parse_special)):
                found.append(self.ids[part])
            else:
                for chunk in _splitter().findall(part):
                    found.extend(self._encode_chunk(chunk))
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; broken UTF-8 becomes U+FFFD."""
        bytes_of = {letter: byte for byte, letter in enumerate(byte_alphabet())}
        raw = bytearray()
        for at in ids:
            piece = self.pieces[at]
            raw += piece.encode() if piece in MARKS or piece in CONTROL else bytes(bytes_of[letter] for letter in piece)
        return raw.decode(errors="replace")

    def _encode_chunk(self, chunk: str) -> tuple[int, ...]:
        if chunk not in self._known:
            if len(self._known) > 200_000:
                self._known.clear()
            parts = [byte_alphabet()[byte] for byte in chunk.encode()]
            while len(parts) > 1:
                ranked = [(self._ranks.get(pair, sys.maxsize), at) for at, pair in enumerate(pairwise(parts))]
                rank, at = min(ranked)
                if rank == sys.maxsize:
                    break
                parts[at : at + 2] = [parts[at] + parts[at + 1]]
            self._known[chunk] = tuple(self.ids[part] for part in parts)
        return self._known[chunk]

    def save(self, path: Path) -> None:
        """Write as JSON, ASCII only."""
        path.write_text(json.dumps({"pieces": self.pieces, "merges": self.merges}, indent=0) + "\n", encoding="utf-8")


def load(path: Path) -> Tokenizer:
    """The tokenizer that `save` wrote."""
    held = json.loads(path.read_text(encoding="utf-8"))
    return Tokenizer(tuple(held["pieces"]), tuple((left, right) for left, right in held["merges"]))


@cache
def byte_alphabet() -> tuple[str, ...]:
    """GPT-2's letter for each byte: printable ones stand for themselves, the others move to U+0100 and up."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return tuple(chr(byte) if byte in plain else chr(next(moved)) for byte in range(256))


def train(texts: Iterable[str], vocabulary: int, attached: int) -> Tokenizer:
    """Learn a table of `vocabulary` tokens, `attached` of them a word with the mark before it.

    The same texts make the same table: ties go to the pair that sorts first. Slashes and tildes never merge with other
    marks, so that a path in quotes keeps its pieces.
    """
    letters = byte_alphabet()
    runs: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for text in texts:
        for part in re.split(_specials(True), text):
            if part not in MARKS and part not in CONTROL:
                found = _splitter().findall(part)
                chunks.update(found)
                runs.update(run for chunk in found for run in _runs().findall(chunk) if not set(run) & set("/~"))
    words = [([letters[byte] for byte in run.encode()], many) for run, many in sorted(runs.items()) if many > 1]
    merges = _learn(words, vocabulary - attached - 256 - len(CONTROL) - len(MARKS))
    pieces = [*letters, *(left + right for left, right in merges)]
    pairs: Counter[tuple[str, str]] = Counter()
    known = set(pieces)
    for chunk, many in chunks.items():
        spelled = "".join(letters[byte] for byte in chunk.encode())
        if len(spelled) > 1 and len(_runs().findall(chunk)) == 2 and spelled[1:] in known and chunk[1].isalpha():
            pairs[spelled[0], spelled[1:]] += many
    chosen = sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:attached]
    return Tokenizer((*pieces, *(left + right for left, right in chosen), *CONTROL, *MARKS), (*merges, *chosen))


def _learn(words: list[tuple[list[str], int]], many: int) -> list[tuple[str, str]]:
    merges: list[tuple[str, str]] = []
    seen: set[str] = set()
    while len(merges) < many:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, weight in words:
            for pair in pairwise(parts):
                pairs[pair] += weight
        best = min((pair for pair in pairs if "".join(pair) not in seen), key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        seen.add("".join(best))
        for parts, _ in words:
            at = 0
            while at + 1 < len(parts):
                if (parts[at], parts[at + 1]) == best:
                    parts[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def _specials(control: bool) -> str:
    return "(" + "|".join(re.escape(mark) for mark in (*MARKS, *(CONTROL if control else ()))) + ")"


@cache
def _splitter() -> re.Pattern[str]:
    r"""Qwen2's pre-tokenizer, as llama.cpp has it, with \p{L} and \p{N} written out for the `re` module."""
    letter, number = _class_of("L"), _class_of("N")
    return re.compile(
        r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
        rf"|[^\r\n{letter}{number}]?[{letter}]+|[{number}]| ?[^{_SPACE}{letter}{number}]+[\r\n]*"
        rf"|[{_SPACE}]*[\r\n]+|[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]+"
    )


@cache
def _runs() -> re.Pattern[str]:
    """Runs of letters, and what stands between them."""
    letter = _class_of("L")
    return re.compile(rf"[{letter}]+|[^{letter}]+")


@cache
def _class_of(category: str) -> str:
    """The inside of a character class with every code point whose category begins with `category`."""
    ranges: list[list[int]] = []
    for point in range(sys.maxunicode + 1):
        if unicodedata.category(chr(point))[0] == category:
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1][1] = point
            else:
                ranges.append([point, point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
