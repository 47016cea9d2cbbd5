"""The edge to llama.cpp: typed handles over llama_cpp's low-level functions. Of the rest, only pooled.py imports it.

llama.cpp ends its whole process on much that it does not like (a hostile file, a full device, a broken grammar state).
So this runs in a stage's process only, arguments are checked before they go in, and what comes back as NULL or a
negative number becomes a typed error with llama.cpp's own last words.
"""

import ctypes
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as raw
import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import CapacityError, InputError, ModelFileError, StageError, SwarmError
from mycoswarm.hardware.plugin import load_back_ends
from mycoswarm.stage.capture import Capture, TensorFunctions
from mycoswarm.stage.log import Log
from mycoswarm.wire.plan import Conditions

CACHE_STEP = 256  # llama.cpp rounds n_ctx up to its multiples, but holds n_batch against the number before that
MAX_CONTEXT = 1 << 22  # llama.cpp books 50 bytes a token before it asks for memory, and hangs over absurd numbers
_DEVICE_LINE = re.compile(r"load_tensors: layer\s+(\d+) assigned to device ([^,\s]+)")
_MEMORY_WORDS = re.compile(
    r"out of memory|(?:failed|unable|cannot) to allocate|cannot allocate|bad_alloc", re.IGNORECASE
)
_POOLINGS = {None: -1, "mean": 1, "cls": 2, "last": 3}  # llama.h: enum llama_pooling_type
_CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl")  # as llama.cpp's own server


@functools.cache
def shared_log() -> Log:
    """The log, installed. One per process, because llama.cpp has one log callback per process."""
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")  # else a failed assert starts gdb on this process, for seconds
    log = Log()

    def hear(level: int, text: bytes, _user_data: int) -> None:
        log.take(level, text)

    log.callback = raw.llama_log_callback(hear)
    raw.llama_log_set(log.callback, ctypes.c_void_p(0))
    load_back_ends(raw._lib, Path(raw._base_path))
    raw.llama_backend_init()
    return log


class Model:
    """Loaded weights and vocabulary. `layer_devices`: where llama.cpp's load log says that each layer went."""

    def __init__(self, handle: Any, layer_devices: tuple[str, ...]) -> None:
        self.handle = handle
        self.layer_devices = layer_devices
        self.n_layer = int(raw.llama_model_n_layer(handle))
        self.n_embd = int(raw.llama_model_n_embd(handle))
        self.n_input = int(raw.llama_model_n_embd_inp(handle))
        self._vocab = raw.llama_model_get_vocab(handle)
        self.n_vocab = int(raw.llama_vocab_n_tokens(self._vocab))

    @classmethod
    def load(cls, paths: Sequence[Path], *, gpu: bool, on_progress: Callable[[float], None] | None = None) -> "Model":
        """Load one GGUF file, or its splits in order. With `gpu`, all layers go to the GPUs that llama.cpp sees.

        `on_progress` gets the share that is loaded, 0 to 1, often.

        Raises:
            ModelFileError: missing, or not a model that llama.cpp loads.
            CapacityError: no memory for it.
        """
        for path in paths:
            if not path.is_file():
                raise ModelFileError(f"the model file {path.name} is not there", code="model_file_missing")
        log = shared_log()
        params = raw.llama_model_default_params()
        params.load_mode = raw.LLAMA_LOAD_MODE_MMAP
        params.n_gpu_layers = -1 if gpu else 0
        no_devices = (ctypes.c_void_p * 1)(None)
        if not gpu:
            params.devices = ctypes.cast(no_devices, ctypes.c_void_p).value

        def report(share: float, _user_data: int) -> bool:
            if on_progress is not None:
                on_progress(share)
            return True

        params.progress_callback = progress = raw.llama_progress_callback(report)
        names = (ctypes.c_char_p * len(paths))(*(os.fsencode(path) for path in paths))
        with log.heard() as lines:
            if len(paths) == 1:
                handle = raw.llama_model_load_from_file(names[0], params)
            else:
                handle = raw.llama_model_load_from_splits(names, len(paths), params)
        del progress
        if not handle:
            raise _load_error(f"llama.cpp cannot load {paths[0].name if paths else 'nothing'}", log)
        found = {match[1]: match[2] for line in lines if (match := _DEVICE_LINE.search(line))}
        model = cls(handle, ())
        model.layer_devices = tuple(found.get(str(index), "unknown") for index in range(model.n_layer))
        return model

    def close(self) -> None:
        """Free the weights. Contexts and samplers of this model must be closed before."""
        if self.handle:
            raw.llama_model_free(self.handle)
            self.handle = None

    def tokenize(self, text: bytes, *, special: bool, framed: bool = False) -> list[int]:
        """Token ids of UTF-8 text; with `special`, control tokens' texts are parsed. Nothing is added in front or
        behind, but with `framed` what the model wants there (bos, cls; eos, sep).

        Raises:
            InputError: too long for llama.cpp to count.
        """
        room = (
            len(text) + 4
        )  # one token per byte, a prefix that some tokenizers add and the frame: the most there can be
        for _ in range(2):
            ids = np.empty(room, np.int32)
            count = raw.llama_tokenize(
                self._vocab, text, len(text), _pointer(ids, raw.llama_token), room, framed, special
            )
            if 0 <= count <= room:
                return [int(token) for token in ids[:count]]
            room = -int(count)
        raise InputError("the text is too long to be tokenised", code="context_length_exceeded")

    def piece(self, token: int, *, special: bool) -> bytes:
        """Bytes that a token stands for; without `special`, control tokens stand for none."""
        room = 64
        for _ in range(2):
            buffer = ctypes.create_string_buffer(room)
            count = int(raw.llama_token_to_piece(self._vocab, token, buffer, room, 0, special))
            if 0 <= count <= room:
                return buffer.raw[:count]
            room = -count
        raise StageError(f"llama.cpp gives no text for token {token}", last_words=shared_log().last_words())

    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer (end of text, of turn, of message)."""
        return bool(raw.llama_vocab_is_eog(self._vocab, token))

    def attributes(self, token: int) -> int:
        """llama.cpp's bits for a token's kind (`llama_token_attr`)."""
        return int(raw.llama_vocab_get_attr(self._vocab, token))

    def marker(self, which: str) -> int | None:
        """Id of the token that "bos", "eos" or "eot" names, None where the model has none."""
        reader = {"bos": raw.llama_vocab_bos, "eos": raw.llama_vocab_eos, "eot": raw.llama_vocab_eot}[which]
        token = int(reader(self._vocab))
        return token if token >= 0 else None

    @property
    def adds_bos(self) -> bool:
        """Whether the model wants its "bos" token in front of plain text."""
        return bool(raw.llama_vocab_get_add_bos(self._vocab))

    @property
    def template(self) -> str | None:
        """The chat template in the file, None where there is none."""
        text = raw.llama_model_chat_template(self.handle, None)
        return None if text is None else bytes(text).decode("utf-8", "replace")

    def grammar(self, gbnf: str) -> "SamplerPart":
        """A sampler part that lets only this grammar's texts through.

        Raises:
            InputError: llama.cpp cannot read the grammar.
        """
        with shared_log().heard():
            handle = raw.llama_sampler_init_grammar(self._vocab, gbnf.encode(), b"root")
        if not handle:
            said = "; ".join(shared_log().last_words()[-1:])
            raise InputError(f"this JSON schema gives no usable grammar: {said}", hint="Simplify the schema.")
        return SamplerPart(handle)


def _load_error(what: str, log: Log) -> SwarmError:
    words = log.last_words()
    said = f"{what}: {words[-1]}" if words else what
    if any(_MEMORY_WORDS.search(word) for word in words):
        return CapacityError(said)
    return ModelFileError(said)


def tensor_functions() -> TensorFunctions:
    """ggml's functions for the capture, looked up through libllama so that they belong to the copy that computes.

    (Opening libggml-base by its path loads a second copy where a wheel holds it under several names.)
    """
    library = raw._lib  # the handle has no public name
    names = ("ggml_get_name", "ggml_nbytes", "ggml_backend_tensor_get")
    name_of, bytes_of, read = (ctypes.cast(library[name], ctypes.c_void_p).value or 0 for name in names)
    return TensorFunctions(name_of=name_of, bytes_of=bytes_of, read=read)


class BatchArrays:
    """A `llama_batch` over numpy arrays: numpy fills them, llama.cpp reads them, nothing lies between.

    One sequence per token. `n_embd` 0 takes tokens, else hidden states of that width.
    """

    def __init__(self, n_rows: int, n_embd: int) -> None:
        self.tokens = np.zeros(n_rows, np.int32)
        self.hidden = np.zeros((n_rows, n_embd), np.float32)
        self.positions = np.zeros(n_rows, np.int32)
        self.sequences = np.zeros(n_rows, np.int32)
        self.outputs = np.zeros(n_rows, np.int8)
        self._counts = np.ones(n_rows, np.int32)
        starts = self.sequences.ctypes.data + self.sequences.itemsize * np.arange(n_rows, dtype=np.uintp)
        self._starts = np.ascontiguousarray(starts, np.uintp)
        self.batch = raw.llama_batch(
            n_tokens=0,
            token=None if n_embd else _pointer(self.tokens, raw.llama_token),
            embd=_pointer(self.hidden, ctypes.c_float) if n_embd else None,
            pos=_pointer(self.positions, raw.llama_pos),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._starts, ctypes.POINTER(raw.llama_seq_id)),
            logits=_pointer(self.outputs, ctypes.c_int8),
        )


class Context:
    """One KV cache and compute graph over a model."""

    def __init__(self, model: Model, conditions: Conditions, *, gpu: bool, capture: Capture | None) -> None:
        """Raises: StageError, where llama.cpp refuses the conditions; CapacityError, where memory is short."""
        if not 0 < conditions.n_ctx <= MAX_CONTEXT:
            raise StageError(
                f"a context of {conditions.n_ctx} tokens, where {MAX_CONTEXT} are the most", code="context_refused"
            )
        params = raw.llama_context_default_params()
        params.n_ctx = -(-conditions.n_ctx // CACHE_STEP) * CACHE_STEP
        # llama.cpp keeps logits for n_seq_max rows at least and aborts where n_batch is less.
        params.n_batch = params.n_ubatch = max(conditions.n_ubatch, conditions.n_seq_max)
        params.n_seq_max = conditions.n_seq_max
        params.n_threads = params.n_threads_batch = conditions.n_threads
        params.type_k, params.type_v = _cache_type(conditions.type_k), _cache_type(conditions.type_v)
        params.flash_attn_type = int(conditions.flash_attention)  # explicit: "auto" (-1) would ask each stage's devices
        params.embeddings, params.pooling_type = conditions.pooling is not None, _POOLINGS[conditions.pooling]
        params.kv_unified = True  # else rows are reordered across sequences
        params.swa_full = True  # a sliding window's cache can be cut back and go on
        params.offload_kqv = params.op_offload = gpu
        params.no_perf = True
        if capture is not None:
            params.cb_eval = raw.ggml_backend_sched_eval_callback(capture.callback_address)
            params.cb_eval_user_data = capture.user_data_address
        self._capture = capture  # llama.cpp holds its address
        log = shared_log()
        with log.heard():
            self.handle = raw.llama_init_from_model(model.handle, params)
        if not self.handle:
            error = _load_error("llama.cpp cannot open a context", log)
            if isinstance(error, CapacityError):
                raise error
            raise StageError(error.message, last_words=log.last_words(), code="context_refused")
        self._memory = raw.llama_get_memory(self.handle)
        if not self._memory and conditions.pooling is None:  # an encoder; llama.cpp has no logits of it to give
            self.close()
            raise ModelFileError("this model only makes embeddings", code="embeddings_only", hint="Ask another one.")
        self._n_vocab = model.n_vocab
        self.n_ctx = int(raw.llama_n_ctx(self.handle))

    def decode(self, arrays: BatchArrays, n_rows: int) -> int:
        """Compute the first `n_rows` rows and wait for them. 0, or llama_decode's error number."""
        arrays.batch.n_tokens = n_rows
        code = int(raw.llama_decode(self.handle, arrays.batch))
        raw.llama_synchronize(self.handle)
        return code

    def logits(self, row: int) -> NDArray[np.float32]:
        """A copy of the logits of one row of the last batch, float32[n_vocab].

        Raises:
            StageError: that row was not wanted.
        """
        pointer = raw.llama_get_logits_ith(self.handle, row)
        if not pointer:
            raise StageError(f"llama.cpp has no logits for row {row}", last_words=shared_log().last_words())
        values: NDArray[np.float32] = np.ctypeslib.as_array(pointer, (self._n_vocab,)).copy()
        return values

    def remove(self, sequence: int, first: int, last: int) -> bool:
        """Forget positions [first, last) of a sequence; last -1 is to its end. False where llama.cpp cannot."""
        return bool(raw.llama_memory_seq_rm(self._memory, sequence, first, last))

    def close(self) -> None:
        """Free the cache and the graph."""
        if self.handle:
            raw.llama_free(self.handle)
            self.handle = None


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))


def _cache_type(name: str) -> int:
    if name not in _CACHE_TYPES:
        known = ", ".join(_CACHE_TYPES)
        raise StageError(f"no KV cache of type {name!r}", hint=f"Use one of {known}.", code="context_refused")
    return int(getattr(raw, f"GGML_TYPE_{name.upper()}", 30))  # bf16 (30) has no name in llama_cpp


class Candidates:
    """A `llama_token_data_array` over one numpy array of all tokens."""

    def __init__(self, n_vocab: int) -> None:
        self._ids = np.arange(n_vocab, dtype=np.int32)
        self._cells = np.zeros(n_vocab, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        self._data = _pointer(self._cells, raw.llama_token_data)
        self.array = raw.llama_token_data_array(data=self._data, size=n_vocab, selected=-1, sorted=False)

    def fill(self, logits: NDArray[np.float32]) -> None:
        """All tokens, with these logits."""
        self._cells["id"], self._cells["logit"] = self._ids, logits
        self._reset(len(self._cells))

    def fill_one(self, token: int) -> None:
        """This token alone, with logit 0."""
        self._cells[0] = (token, 0.0, 0.0)
        self._reset(1)

    @property
    def best(self) -> float:
        """The highest logit that is left."""
        return float(self._cells["logit"][: self.array.size].max(initial=-np.inf))

    @property
    def selected(self) -> int:
        """The chosen token's id."""
        return int(self._cells["id"][self.array.selected])

    def _reset(self, size: int) -> None:
        self.array.data, self.array.size, self.array.selected, self.array.sorted = self._data, size, -1, False


class SamplerPart:
    """One of llama.cpp's samplers."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def apply(self, candidates: Candidates) -> None:
        """Change the candidates, or choose among them."""
        raw.llama_sampler_apply(self._handle, ctypes.byref(candidates.array))

    def accept(self, token: int) -> None:
        """Take the token into the part's state. A grammar that does not allow it ends the process: ask first."""
        raw.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Free it."""
        if self._handle:
            raw.llama_sampler_free(self._handle)
            self._handle = None


def logit_bias(n_vocab: int, biases: Mapping[int, float]) -> SamplerPart:
    """Adds a bias to the logits of some tokens."""
    cells = (raw.llama_logit_bias * len(biases))(*(raw.llama_logit_bias(*item) for item in biases.items()))
    return SamplerPart(raw.llama_sampler_init_logit_bias(n_vocab, len(biases), cells))


def penalties(n_vocab: int, *, last_n: int, repeat: float, frequency: float, presence: float) -> SamplerPart:
    """Makes tokens less likely that are among the last `last_n` accepted ones."""
    return SamplerPart(raw.llama_sampler_init_penalties(n_vocab, last_n, repeat, frequency, presence))


def truncation(*, top_k: int, top_p: float, min_p: float) -> list[SamplerPart]:
    """Keeps the likeliest tokens, at least one; parts that would change nothing are left out."""
    parts = []
    if top_k > 0:
        parts.append(SamplerPart(raw.llama_sampler_init_top_k(top_k)))
    if top_p < 1:
        parts.append(SamplerPart(raw.llama_sampler_init_top_p(top_p, 1)))
    if min_p > 0:
        parts.append(SamplerPart(raw.llama_sampler_init_min_p(min_p, 1)))
    return parts


def temperature(value: float) -> SamplerPart:
    """Divides the logits."""
    return SamplerPart(raw.llama_sampler_init_temp(value))


def greedy() -> SamplerPart:
    """Chooses the likeliest token."""
    return SamplerPart(raw.llama_sampler_init_greedy())


def distribution(seed: int) -> SamplerPart:
    """Draws a token, one random number per draw. `seed` in [0, 2**32 - 1): the last value would mean a random one."""
    return SamplerPart(raw.llama_sampler_init_dist(seed))
