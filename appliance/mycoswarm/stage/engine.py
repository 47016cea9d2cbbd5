"""One layer range in llama.cpp: batches in, hidden states or logits out. Blocking; one thread at a time.

The same conditions and the same batches give bit-identical results for a whole model and for its cut (DESIGN 3.6);
tests/live/test_split.py holds that.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import ModelFileError, StageError
from mycoswarm.stage.capture import Capture
from mycoswarm.stage.llama import BatchArrays, Context, Model, shared_log, tensor_functions
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.plan import Conditions

_NO_SLOT = 1  # llama_decode: "could not find a KV slot for the batch"; the cache is as it was before


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One step's rows, n of them. Positions follow each other within each sequence.

    `positions` and `sequences` int32[n], `wanted` bool[n]: the rows whose logits the head will read. Either `tokens`
    int32[n] or `hidden` float32[n, n_embd].
    """

    positions: NDArray[np.int32]
    sequences: NDArray[np.int32]
    wanted: NDArray[np.bool_]
    tokens: NDArray[np.int32] | None = None
    hidden: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a step gave: on every stage but the head `hidden`, float32[n, n_embd], a copy. `compute_us`: microseconds
    inside llama.cpp."""

    hidden: NDArray[np.float32] | None
    compute_us: int


class Engine:
    """A model, or layers of one, ready to compute."""

    def __init__(
        self, model: Model, context: Context, capture: Capture | None, conditions: Conditions, *, feeds_tokens: bool
    ) -> None:
        self._model, self._context, self._capture = model, context, capture
        self._conditions = conditions
        self._max_rows = min(conditions.n_ubatch, context.n_ctx)  # llama.cpp asserts that a batch fits the cache
        self._arrays = BatchArrays(self._max_rows, 0 if feeds_tokens else model.n_embd)
        self._feeds_tokens = feeds_tokens
        self._wanted = np.zeros(0, np.bool_)
        self._is_open = True
        self.n_layer, self.n_embd, self.n_vocab = model.n_layer, model.n_embd, model.n_vocab
        self.n_ctx = context.n_ctx  # llama.cpp rounds the asked-for number up to a multiple of 256
        self.layer_devices = model.layer_devices
        self.vocabulary: Vocabulary | None = Vocabulary(model) if capture is None else None

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        conditions: Conditions,
        *,
        n_layer: int,
        is_head: bool,
        feeds_tokens: bool,
        gpu: bool,
        output_name: str = "l_out",
        on_progress: Callable[[float], None] | None = None,
    ) -> "Engine":
        """Load one GGUF file or its splits in order, and get ready.

        The files must hold exactly `n_layer` layers. Not the head: the tensor `output_name` of the last layer is given
        out (its name is the architecture's). `feeds_tokens`: batches hold token ids, in a ring of one.

        Raises:
            ModelFileError: not a model that llama.cpp loads, or not of `n_layer` layers.
            CapacityError: no memory for it.
            StageError: llama.cpp refuses the conditions.
            SetupError: the capture library is missing.
        """
        model = Model.load(paths, gpu=gpu, on_progress=on_progress)
        try:
            if model.n_layer != n_layer:
                raise ModelFileError(f"the model files hold {model.n_layer} layers where {n_layer} were asked")
            if not feeds_tokens and model.n_input != model.n_embd:
                raise ModelFileError("this model's input is not one hidden state per token", code="cannot_split")
            capture = None
            if not is_head:
                wanted = f"{output_name}-{n_layer - 1}"
                capture = Capture(tensor_functions(), wanted, width=model.n_embd, capacity_rows=conditions.n_ubatch)
            context = Context(model, conditions, gpu=gpu, capture=capture)
        except BaseException:
            model.close()
            raise
        return cls(model, context, capture, conditions, feeds_tokens=feeds_tokens)

    def decode(self, batch: Batch) -> Decoded:
        """Compute one step and add its rows to the KV cache.

        Raises:
            StageError: code "kv_full" where the cache has no room (it is unchanged then), "bad_batch" where the batch
                cannot be right, "not_numbers" where its states overflowed, else llama.cpp failed. In both the cache is
                unknown: end the ring. One NaN in it spoils every sequence, masked or removed: 0 times NaN is NaN.
            CaptureError: the hidden states are not exactly this step's rows; the cache is unknown.
        """
        n_rows = self._fill(batch)
        if self._capture is not None:
            self._capture.begin()
        started = time.perf_counter_ns()
        code = self._context.decode(self._arrays, n_rows)
        compute_us = (time.perf_counter_ns() - started) // 1000
        if code == _NO_SLOT:
            raise StageError(
                f"the KV cache of {self.n_ctx} tokens has no room for {n_rows} more",
                code="kv_full",
                hint="Wait for other answers to end, or open the model with a longer context.",
            )
        if code != 0:
            raise StageError(f"llama.cpp failed to decode (code {code})", last_words=shared_log().last_words())
        if self._capture is not None:
            rows = self._capture.take(n_rows)
            if not np.isfinite(rows).all():
                raise _no_numbers("hidden states")
            return Decoded(rows, compute_us)
        self._wanted = batch.wanted.copy()
        return Decoded(None, compute_us)

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits of one wanted row of the last batch, float32[n_vocab], a copy. On the head only.

        Raises:
            StageError: that row was not wanted; or (code "not_numbers") the cache is spoilt: end the ring.
        """
        self._check_open()
        if not (0 <= row < len(self._wanted) and self._wanted[row]):
            raise StageError(f"row {row} of the last batch has no logits", code="bad_batch")
        logits = self._context.logits(row)
        if not math.isfinite(float(logits.max())):
            raise _no_numbers("logits")
        return logits

    def remove(self, sequence: int, first: int, last: int) -> None:
        """Forget positions [first, last) of a sequence; last -1 is to its end.

        Raises:
            StageError: this model cannot forget a part.
        """
        self._check_open()
        if not (0 <= sequence < self._conditions.n_seq_max and first >= 0 and last >= -1):
            raise StageError(f"positions [{first}, {last}) of sequence {sequence} cannot be removed", code="bad_batch")
        if not self._context.remove(sequence, first, last):
            raise StageError(f"llama.cpp cannot forget positions [{first}, {last}) of sequence {sequence}")

    def close(self) -> None:
        """Free everything. Samplers of this engine's vocabulary must be closed before."""
        self._is_open = False
        self._context.close()
        self._model.close()

    def _check_open(self) -> None:
        if not self._is_open:
            raise StageError("the engine is closed")

    def _fill(self, batch: Batch) -> int:
        """Write a batch into llama.cpp's arrays, refusing what would make it assert. Gives the number of rows."""
        self._check_open()
        arrays, n_rows = self._arrays, len(batch.positions)
        content = batch.tokens if self._feeds_tokens else batch.hidden
        self._wanted = np.zeros(0, np.bool_)  # the rows before are gone, whatever happens now
        if not 0 < n_rows <= self._max_rows:
            raise StageError(f"a batch of {n_rows} rows, where 1 to {self._max_rows} fit", code="bad_batch")
        shape = (n_rows,) if self._feeds_tokens else (n_rows, self.n_embd)
        if content is None or content.shape != shape:
            raise StageError(
                f"a batch of {n_rows} rows without {'tokens' if self._feeds_tokens else 'states'}", code="bad_batch"
            )
        if not len(batch.sequences) == len(batch.wanted) == n_rows:
            raise StageError("a batch whose arrays differ in length", code="bad_batch")
        if batch.positions.min() < 0 or batch.sequences.min() < 0:
            raise StageError("a batch with negative positions or sequences", code="bad_batch")
        if batch.sequences.max() >= self._conditions.n_seq_max:
            raise StageError(f"a batch with sequences past {self._conditions.n_seq_max - 1}", code="bad_batch")
        if batch.tokens is not None and self._feeds_tokens:
            if batch.tokens.min() < 0 or batch.tokens.max() >= self.n_vocab:
                raise StageError(f"a batch with tokens outside [0, {self.n_vocab})", code="bad_batch")
            arrays.tokens[:n_rows] = batch.tokens
        else:
            if not np.isfinite(content).all():
                raise StageError("a batch with hidden states that are no numbers", code="bad_batch")
            arrays.hidden[:n_rows] = content
        arrays.positions[:n_rows] = batch.positions
        arrays.sequences[:n_rows] = batch.sequences
        arrays.outputs[:n_rows] = batch.wanted if self._capture is None else 1
        return n_rows


def _no_numbers(what: str) -> StageError:
    return StageError(
        f"the model's {what} are not numbers",
        code="not_numbers",
        hint="Its numbers overflow on this device, or its file is damaged.",
    )
