"""Small stand-ins for llama.cpp: exact, deterministic and quick. The contract tests hold the real ones to the same."""

import re
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import StageError
from mycoswarm.stage.engine import Batch, Decoded
from mycoswarm.wire.request import Sampling

FIRST_CHARACTER = 1000  # ids below are special tokens
END_TEXT, BOS_TEXT = "<|im_end|>", "<s>"


class FakeVocabulary:
    """One token per UTF-8 byte, and special tokens found as llama.cpp finds them: longer texts first.

    `space_prefix`: like SentencePiece's, a blank in front of the first text.
    """

    def __init__(
        self,
        control: tuple[str, ...] = (BOS_TEXT, "<|im_start|>", END_TEXT),
        user_defined: tuple[str, ...] = (),
        *,
        template: str | None = None,
        adds_bos: bool = False,
        space_prefix: bool = False,
    ) -> None:
        self.control_texts, self.user_defined_texts = frozenset(control), frozenset(user_defined)
        self._texts = (*control, *user_defined)
        self._n_control = len(control)
        self.n_vocab = FIRST_CHARACTER + 256
        self.template, self.adds_bos = template, adds_bos
        self.bos_id: int | None = control.index(BOS_TEXT) if BOS_TEXT in control else None
        self.end_id = control.index(END_TEXT) if END_TEXT in control else -1
        self.bos, self.eos = BOS_TEXT, END_TEXT
        self._space_prefix = space_prefix

    def tokenize(self, text: str, special: bool) -> list[int]:
        parsed = [t for t in self._texts if special or t in self.user_defined_texts]
        fragments: list[str | int] = [text] if text else []
        for each in sorted(parsed, key=lambda t: -len(t.encode())):
            fragments = [part for fragment in fragments for part in self._partition(fragment, each)]
        ids: list[int] = []
        for fragment in fragments:
            if isinstance(fragment, int):
                ids.append(fragment)
            else:
                blank = " " if self._space_prefix and (not ids or ids[-1] < FIRST_CHARACTER) else ""
                ids += [FIRST_CHARACTER + byte for byte in (blank + fragment).encode()]
        return ids

    def _partition(self, fragment: str | int, text: str) -> list[str | int]:
        if isinstance(fragment, int):
            return [fragment]
        parts: list[str | int] = []
        for part in re.split(f"({re.escape(text)})", fragment):
            if part:
                parts.append(self._texts.index(text) if part == text else part)
        return parts

    def token_bytes(self, token: int, shown: frozenset[str] = frozenset()) -> bytes:
        if token >= FIRST_CHARACTER:
            return bytes((token - FIRST_CHARACTER,))
        if self._texts[token] in shown:
            return self._texts[token].encode()
        return b"" if token < self._n_control else self._texts[token].encode()

    def is_end(self, token: int) -> bool:
        return token == self.end_id


class FakeEngine:
    """The next token is a function of a sequence's tokens: `follow(tokens) -> token`. Holds what a KV cache would."""

    def __init__(
        self,
        follow: Callable[[list[int]], int],
        *,
        vocabulary: FakeVocabulary | None = None,
        n_ctx: int = 512,
        n_ubatch: int = 256,
        n_embd: int = 4,
    ) -> None:
        self.vocabulary = vocabulary or FakeVocabulary()
        self.n_ctx, self.n_embd, self.n_vocab = n_ctx, n_embd, self.vocabulary.n_vocab
        self._n_ubatch = n_ubatch
        self._follow = follow
        self.cells: dict[int, list[int]] = {}
        self._logits: dict[int, NDArray[np.float32]] = {}
        self.batches: list[list[tuple[int, int]]] = []
        self.fails_at: int | None = None
        self.is_spoilt = False

    @property
    def used(self) -> int:
        return sum(map(len, self.cells.values()))

    def decode(self, batch: Batch) -> Decoded:
        tokens = batch.tokens if batch.hidden is None else batch.hidden[:, 0].astype(np.int32)
        assert tokens is not None
        if self.fails_at is not None and len(self.batches) >= self.fails_at:
            raise StageError("the device is on fire", code="stage_failed")
        if not 0 < len(tokens) <= self._n_ubatch:
            raise StageError("too many rows", code="bad_batch")
        if self.used + len(tokens) > self.n_ctx:
            raise StageError("no room", code="kv_full")
        self._logits = {}
        self.batches.append(list(zip(batch.sequences.tolist(), batch.positions.tolist(), strict=True)))
        rows = zip(batch.sequences.tolist(), batch.positions.tolist(), tokens.tolist(), strict=True)
        for row, (sequence, position, token) in enumerate(rows):
            cells = self.cells.setdefault(sequence, [])
            if position != len(cells):
                raise StageError(f"position {position} where {len(cells)} comes next", code="bad_batch")
            cells.append(token)
            if batch.wanted[row]:
                logits = np.zeros(self.n_vocab, np.float32)
                logits[self._follow(list(cells))] = 10.0
                self._logits[row] = logits
        return Decoded(None, 7)

    def logits(self, row: int) -> NDArray[np.float32]:
        if self.is_spoilt:
            raise StageError("the model's logits are not numbers", code="not_numbers")
        if row not in self._logits:
            raise StageError(f"row {row} of the last batch has no logits", code="bad_batch")
        return self._logits[row].copy()

    def remove(self, sequence: int, first: int, last: int) -> None:
        cells = self.cells.get(sequence, [])
        self.cells[sequence] = cells[:first] + (cells[last:] if last >= 0 else [])


class FakeSampler:
    """Greedy. Refuses schemas that name "impossible", and what `accept` is told is kept."""

    def __init__(self, sampling: Sampling, prompt: list[int]) -> None:
        self.seed = sampling.seed or 0
        self.prompt = prompt
        self.accepted: list[int] = []
        self.is_closed = False
        self.fails_at = (sampling.json_schema or {}).get("fails_at")

    def sample(self, row: NDArray[np.float32]) -> int:
        if self.fails_at is not None and len(self.accepted) >= self.fails_at:
            raise StageError("no token fits the schema", code="grammar_stuck")
        return int(row.argmax())

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def resume(self, tokens: list[int]) -> None:
        self.accepted += tokens

    def close(self) -> None:
        self.is_closed = True
