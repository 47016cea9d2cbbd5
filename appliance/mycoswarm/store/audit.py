"""The audit of a ledger: which rows were changed, removed, inserted, moved or cut off. Pure, in constant memory.

A row that is wrong is one finding, however many come after it: the audit goes on with the digest that stands there.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mycoswarm.base.errors import InputError
from mycoswarm.store.chain import GENESIS, Head, Row, head_words, numbered, read_line, row_words, unnumbered

if TYPE_CHECKING:
    from hashlib import _Hash

MAX_FINDINGS = 100
MAX_MISSING = 1000  # numbers of removed rows that a row in a wrong place is tried under
NEAR = 3  # numbers around its own that every wrong row is tried under
ALTERED = "altered"  # the kind of row in which a node notes that it found its own ledger's end altered

Kind = Literal["changed", "removed", "inserted", "unsigned", "moved", "unlinked", "cut", "head", "altered"]

_WORDS: dict[Kind, str] = {
    "changed": "was changed after it was written",
    "removed": "was removed",
    "inserted": "was written by somebody without the node's key",
    "unsigned": "has another signature than the one that the node gave it",
    "moved": "was moved here",
    "unlinked": "does not follow the row before it: rows of two copies of this ledger were mixed",
    "cut": "was cut off at the end",
    "altered": "says that the node found the end of its ledger altered: rows before it may have been cut off",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the rows `first` to `last`, both included. `words` is a sentence for people.

    `really` is the number under which the first of moved rows was written.
    """

    kind: Kind
    first: int
    last: int
    words: str
    really: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit found. `rows` were read; `more` further findings are not listed."""

    rows: int
    findings: tuple[Finding, ...]
    more: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(slots=True)
class _Note:
    kind: Kind
    first: int
    last: int
    shift: int = 0  # of moved rows: add it for the number that they were written under


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A row whose digest is not that of its fields. It may be a good row in a wrong place."""

    note: _Note
    state: "_Hash"
    digest: str


class Audit:
    """Give it every row in order, then the head. `first` is the number of the first row, where that is not 1."""

    def __init__(self, is_signed: Callable[[bytes, bytes], bool], *, first: int = 1) -> None:
        self._is_signed = is_signed
        self._expected = first
        self._before: str | None = GENESIS if first == 1 else None  # None: not known here
        self._before_is_good = True
        self._genuine = 0  # the number of the last good row
        self._rows, self._more, self._shift = 0, 0, 0
        self._notes: list[_Note] = []
        self._suspects: list[_Suspect] = []

    def add(self, row: Row) -> None:
        """Look at the next row."""
        self._rows += 1
        if row.seq < self._expected:
            self._note("inserted", row.seq)
            return
        if row.seq > self._expected:
            self._note("removed", self._expected, row.seq - 1)
            self._before = None
        follows = self._before is None or row.previous == self._before
        state, is_signed = unnumbered(row), self._is_signed(row_words(row.digest), row.signature)
        is_good = False
        if numbered(state, row.seq) != row.digest:
            self._note_wrong(row, state, is_signed)
        elif not is_signed:
            self._note("inserted", row.seq)
        elif not follows and self._before_is_good:
            self._note("unlinked", row.seq)
        else:
            is_good = True
            if not self._before_is_good and follows and row.kind != ALTERED:
                self._vouch(row.seq - 1)
            if row.kind == ALTERED:
                self._note("altered", row.seq)
            self._genuine = row.seq
        self._expected, self._before, self._before_is_good = row.seq + 1, row.digest, is_good

    def finish(self, head: Head | None) -> Verdict:
        """Hold what was read against the head, and say what is wrong."""
        wrong_head = self._end(head)
        self._place_suspects()
        findings = [_finding(note) for note in self._notes]
        if wrong_head is not None:
            last = self._expected - 1
            findings.append(Finding("head", last, last, wrong_head))
        return Verdict(self._rows, tuple(findings), self._more)

    def _end(self, head: Head | None) -> str | None:
        """Note what the head says of the rows; give what is wrong with the head itself."""
        last = self._expected - 1
        if head is None:
            return "the head is gone: the newest rows may have been cut off" if self._rows else None
        if not self._is_signed(head_words(head.seq, head.digest), head.signature):
            return "the head was changed: the newest rows may have been cut off"
        if head.seq > last:
            end = self._notes[-1] if self._notes else None
            if end and end.kind == "moved" and end.last == last and end.last + end.shift == head.seq:
                self._note("removed", end.first, end.first + end.shift - 1)  # and the rows after it numbered anew
            else:
                self._note("cut", last + 1, head.seq)
        elif head.seq < last:
            self._notes = [note for note in self._notes if note.kind != "removed" or note.first <= head.seq]
            for note in self._notes:
                if note.first > head.seq and note.kind in ("changed", "unsigned"):
                    note.kind = "inserted"
            if self._genuine > head.seq:
                return f"the head is an old one: it names row {head.seq}, and the rows go on"
        elif self._before is not None and head.digest != self._before:
            if self._before_is_good:
                return f"the head names another row {head.seq} than the one that is there"
        else:
            self._vouch(last)
        return None

    def _vouch(self, seq: int) -> None:
        """A signed word of the node names this row's digest: if it was noted as unsigned, its content is sound."""
        end = self._notes[-1] if self._notes else None
        if end and end.kind == "inserted" and end.first == end.last == seq:
            end.kind = "unsigned"

    def _note_wrong(self, row: Row, state: "_Hash", is_signed: bool) -> None:
        if is_signed:
            for shift in (self._shift, *range(-NEAR, NEAR + 1)):
                if shift and 0 < row.seq + shift < 1 << 63 and numbered(state, row.seq + shift) == row.digest:
                    self._shift = shift
                    self._note("moved", row.seq, shift=shift)
                    return
        note = self._note("changed", row.seq)
        if is_signed and note is not None:
            self._suspects.append(_Suspect(note, state, row.digest))

    def _place_suspects(self) -> None:
        """Say of wrong rows that are good ones under another number that they were moved."""
        numbers = {number for note in self._notes if note.kind != "removed" for number in (note.first, note.last)}
        for note in self._notes:
            if note.kind in ("removed", "cut"):
                numbers |= set(range(note.first, min(note.last + 1, note.first + MAX_MISSING)))
        for suspect in self._suspects:
            for number in numbers:
                if numbered(suspect.state, number) == suspect.digest:
                    suspect.note.kind, suspect.note.shift = "moved", number - suspect.note.first

    def _note(self, kind: Kind, first: int, last: int | None = None, *, shift: int = 0) -> _Note | None:
        last = first if last is None else last
        end = self._notes[-1] if self._notes else None
        # Changed rows stay apart, for each may turn out to be one that was moved.
        if end and (end.kind, end.last + 1, end.shift) == (kind, first, shift) and kind != "changed":
            end.last = last
            return end
        if len(self._notes) >= MAX_FINDINGS:
            self._more += 1
            return None
        self._notes.append(_Note(kind, first, last, shift))
        return self._notes[-1]


def audit_lines(lines: Iterable[str], is_signed: Callable[[bytes, bytes], bool], *, first: int = 1) -> Verdict:
    """Audit an exported ledger. `is_signed(body, signature)` asks the exporting node's public key.

    Raises:
        InputError: a line is no row, or something comes after the head.
    """
    audit, head = Audit(is_signed, first=first), None
    for line in lines:
        if head is not None:
            raise InputError("the export goes on after its head")
        entry = read_line(line)
        if isinstance(entry, Head):
            head = entry
        else:
            audit.add(entry)
    return audit.finish(head)


def _finding(note: _Note) -> Finding:
    really = note.first + note.shift if note.kind == "moved" else None
    rows = f"row {note.first}" if note.first == note.last else f"rows {note.first} to {note.last}:"
    words = f"{rows} {_WORDS[note.kind]}" if note.first == note.last else f"{rows} each {_WORDS[note.kind]}"
    if really is not None:
        words += f": it was written as row {really}" if note.first == note.last else f", beginning with row {really}"
    return Finding(note.kind, note.first, note.last, words, really)
