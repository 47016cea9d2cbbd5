"""A whole model in llama.cpp that makes one vector of a text. Blocking; one thread at a time.

Each text is computed alone, in one micro-batch, in an empty cache: its vector has the same bits whatever else is asked
for at the same time. Encoders want the micro-batch (every token sees all others), pooling does too (llama.cpp pools
within one), so a text longer than it is refused and never cut.

How the states of a text's tokens become one vector is `Conditions.pooling`: their mean, the first one (cls) or the last
one. The vector is then scaled to length 1, as OpenAI and llama.cpp's own server do.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import llama_cpp.llama_cpp as raw
import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import InputError, ModelFileError, StageError
from mycoswarm.stage.llama import BatchArrays, Context, Model, shared_log
from mycoswarm.stage.prompt import MAX_TOKEN_CHARACTERS
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.plan import Conditions


class PooledModel:
    """A model ready to embed."""

    def __init__(self, model: Model, context: Context, conditions: Conditions) -> None:
        """Not for callers: use `open`."""
        self._model, self._context = model, context
        self._vocabulary = Vocabulary(model)
        self.most_tokens = conditions.n_ubatch  # the cache is as long or longer
        self._arrays = BatchArrays(self.most_tokens, 0)
        self._arrays.positions[:] = np.arange(self.most_tokens)
        self._arrays.outputs[:] = 1
        self.layer_devices = model.layer_devices
        self.n_embd = model.n_embd
        self.width = int(raw.llama_model_n_embd_out(model.handle))

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        conditions: Conditions,
        *,
        n_layer: int,
        gpu: bool,
        on_progress: Callable[[float], None] | None = None,
    ) -> "PooledModel":
        """Load one GGUF file, or its splits in order, and get ready.

        Raises:
            ModelFileError: not a model that llama.cpp loads, not of `n_layer` layers, or of two halves (T5).
            CapacityError: no memory for it.
            StageError: llama.cpp refuses the conditions.
        """
        model = Model.load(paths, gpu=gpu, on_progress=on_progress)
        try:
            if model.n_layer != n_layer:
                raise ModelFileError(f"the model files hold {model.n_layer} layers where {n_layer} were asked")
            if raw.llama_model_has_encoder(model.handle):
                raise ModelFileError("models with an encoder of their own (T5) are not used for embeddings here")
            return cls(model, Context(model, conditions, gpu=gpu, capture=None), conditions)
        except BaseException:
            model.close()
            raise

    def read(self, text: str) -> list[int]:
        """Token ids of a text, with what the model wants in front and behind.

        Raises:
            InputError: nothing to embed, or more tokens than fit (code "context_length_exceeded").
        """
        if len(text) > self.most_tokens * MAX_TOKEN_CHARACTERS:  # surely longer; to read it would take long, too
            raise self._too_long(f"{len(text)} characters")
        tokens = self._vocabulary.frame(text)
        if not tokens:
            raise InputError("a text without a single token cannot be embedded", code="empty_input")
        if len(tokens) > self.most_tokens:
            raise self._too_long(f"{len(tokens)} tokens")
        return tokens

    def embed(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The vector of one text, float32[width], of length 1; all 0 where the model gives nothing else.

        Raises:
            StageError: llama.cpp failed, or gave what is no number (code "not_numbers").
        """
        n_rows = len(tokens)
        if not 0 < n_rows <= self.most_tokens:
            raise StageError(f"a text of {n_rows} tokens, where 1 to {self.most_tokens} fit", code="bad_batch")
        raw.llama_memory_clear(raw.llama_get_memory(self._context.handle), False)
        self._arrays.tokens[:n_rows] = tokens
        code = self._context.decode(self._arrays, n_rows)
        pointer = raw.llama_get_embeddings_seq(self._context.handle, 0) if code == 0 else None
        if not pointer:
            raise StageError(f"llama.cpp failed to embed (code {code})", last_words=shared_log().last_words())
        pooled: NDArray[np.float32] = np.ctypeslib.as_array(pointer, (self.width,)).copy()
        length = np.sqrt(np.square(pooled, dtype=np.float64).sum())
        if not np.isfinite(length):
            raise StageError("the model's embeddings are not numbers", code="not_numbers")
        return pooled * np.float32(1 / length if length > 0 else 0)

    def close(self) -> None:
        """Free everything."""
        self._context.close()
        self._model.close()

    def _too_long(self, size: str) -> InputError:
        return InputError(
            f"the text has {size}, and {self.most_tokens} tokens are the most that this model embeds here",
            code="context_length_exceeded",
            hint="Cut it into shorter texts and embed each.",
        )
