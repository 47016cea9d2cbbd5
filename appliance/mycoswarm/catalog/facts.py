"""What a model file says about itself: the facts that placing, routing and showing it need.

A model file is hostile input. `facts_of` has a child process read it, with limits on memory, time and what it may
write, so that the worst file costs that child. What comes back is decoded strictly.
"""

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from gguf import LlamaFileType

from mycoswarm.base.errors import ModelFileError, SetupError, StorageError, SwarmError
from mycoswarm.base.program import module_words
from mycoswarm.catalog.architecture import (
    MAX_LAYERS,
    TABLE_TENSOR,
    cut_points,
    find_split_fault,
    layer_of,
)
from mycoswarm.catalog.container import Container, read_container
from mycoswarm.catalog.piece import Watcher, hash_file

CHILD = module_words("mycoswarm.catalog.inspection")
_MAX_TEMPLATE_CHARACTERS = 1 << 20  # the longest in use have about 20 thousand
_MAX_ANSWER_BYTES = 16 << 20
_MAX_NAME_CHARACTERS = 200
_F16_BYTES = 2
_POOLINGS = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}  # llama.h: enum llama_pooling_type
_MAX_CONTEXT = 1 << 31  # llama.cpp counts positions in int32
_MAX_WIDTH = 1 << 20  # of heads and their keys; real models stay under a thousand
_PARSE_S = 30.0  # a header of 256 MiB takes 10 s on a Raspberry Pi 4
_SLOWEST_READ_BYTES_PER_S = 20e6  # an old SD card


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model file. Tuples hold one number per layer.

    `digest` is the SHA-256 of the file. `kv_bytes_per_token` is for an f16 cache of whole length (windows take less).
    `output_bytes` is what the head holds besides its layers; in a tied model that is the token table again. `cuts` are
    where the model may be cut, empty where it runs whole; `split_reason` says why. `pooling`: how the file says that
    the states of a text's tokens become one vector: mean, cls, last; none or rank, which make no vector of a text; None
    where it says nothing.
    """

    digest: str
    name: str
    architecture: str
    quantisation: str
    parameters: int
    file_bytes: int
    n_layer: int
    n_embd: int
    n_vocab: int
    n_ctx_train: int
    layer_bytes: tuple[int, ...]
    kv_bytes_per_token: tuple[int, ...]
    table_bytes: int
    output_bytes: int
    template: str | None
    sliding_window: int | None = None
    experts: int = 0
    splittable: bool
    split_reason: str
    cuts: tuple[int, ...]
    pooling: str | None = None


class Advance(msgspec.Struct, frozen=True, tag="advance"):
    """Child to parent: how many bytes of the file are hashed."""

    done_bytes: int
    total_bytes: int


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """Child to parent, last line: the facts."""

    facts: ModelFacts


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """Child to parent, last line: why there are no facts."""

    kind: str
    message: str
    hint: str
    code: str


_answers = msgspec.json.Decoder(Advance | Outcome | Refusal)


def read_facts(path: Path, watch: Watcher | None = None) -> ModelFacts:
    """Read a file here, without a child: for files of our own, and inside the child.

    Raises:
        ModelFileError: no sound GGUF file, or no language model.
        StorageError: the file cannot be read.
    """
    model = read_container(path)
    architecture = model.text("general.architecture")
    if not architecture or len(architecture) > 64:
        raise ModelFileError(f"{path.name} does not say of which architecture it is")
    if (model.integer("split.count") or 1) > 1:
        raise ModelFileError(
            f"{path.name} is one part of a model in {model.integer('split.count')} parts",
            hint="Join the parts with `llama-gguf-split --merge FIRST-PART OUT.gguf`, then add that file.",
        )
    n_layer = model.integer(f"{architecture}.block_count")
    table = next((tensor for tensor in model.tensors if tensor.name == TABLE_TENSOR and len(tensor.shape) == 2), None)
    if n_layer is None or not 0 < n_layer <= MAX_LAYERS or table is None:
        raise ModelFileError(
            f"{path.name} holds no language model (its architecture is {architecture!r})",
            hint="Name the model's main .gguf file, not a projector, adapter or vocabulary.",
        )
    if model.integer(f"{architecture}.embedding_length") not in (None, table.shape[0]):
        raise ModelFileError(f"{path.name} contradicts itself: its table of tokens is not as wide as it says")
    template = model.text("tokenizer.chat_template")
    if template is not None and len(template) > _MAX_TEMPLATE_CHARACTERS:
        raise ModelFileError(f"the chat template of {path.name} has {len(template)} characters")
    fault = find_split_fault(model)
    layer_bytes = _layer_bytes(model, n_layer)
    rest = sum(tensor.bytes for tensor in model.tensors) - sum(layer_bytes) - table.bytes
    is_tied = all(tensor.name != "output.weight" for tensor in model.tensors)
    return ModelFacts(
        digest=hash_file(path, watch),
        name=_model_name(model, path),
        architecture=architecture,
        quantisation=_quantisation(model),
        parameters=sum(tensor.elements for tensor in model.tensors),
        file_bytes=model.file_bytes,
        n_layer=n_layer,
        n_embd=table.shape[0],
        n_vocab=table.shape[1],
        n_ctx_train=min(max(0, model.integer(f"{architecture}.context_length") or 0), _MAX_CONTEXT),
        layer_bytes=layer_bytes,
        kv_bytes_per_token=_kv_bytes(model, architecture, n_layer, table.shape[0]),
        table_bytes=table.bytes,
        output_bytes=rest + (table.bytes if is_tied else 0),
        template=template,
        sliding_window=model.integer(f"{architecture}.attention.sliding_window") or None,
        experts=max(0, model.integer(f"{architecture}.expert_count") or 0),
        splittable=fault is None,
        split_reason=fault or "listed",
        cuts=() if fault else cut_points(n_layer),
        pooling=_pooling(model.integer(f"{architecture}.pooling_type")),
    )


def _pooling(said: int | None) -> str | None:
    """By llama.cpp's numbers; one that it does not know pools nothing."""
    return None if said is None else _POOLINGS.get(said, "none")


def _layer_bytes(model: Container, n_layer: int) -> tuple[int, ...]:
    counts = [0] * n_layer
    for tensor in model.tensors:
        found = layer_of(tensor.name)
        if found is not None and found[0] < n_layer:
            counts[found[0]] += tensor.bytes
    return tuple(counts)


def _kv_bytes(model: Container, architecture: str, n_layer: int, n_embd: int) -> tuple[int, ...]:
    """As llama.cpp's load_hparams: heads per layer times the widths of a key and a value; zero where nothing is
    said."""
    heads = _per_layer(model, f"{architecture}.attention.head_count", n_layer)
    kv_heads = _per_layer(model, f"{architecture}.attention.head_count_kv", n_layer) or heads
    if not heads or not kv_heads:
        return (0,) * n_layer
    default = n_embd // max(heads[0], 1)
    key = model.integer(f"{architecture}.attention.key_length") or default
    value = model.integer(f"{architecture}.attention.value_length") or default
    if max(key, value, *kv_heads, 0) > _MAX_WIDTH:
        raise ModelFileError("the model's attention heads are absurdly many or wide")
    return tuple(max(0, count) * (max(0, key) + max(0, value)) * _F16_BYTES for count in kv_heads)


def _per_layer(model: Container, key: str, n_layer: int) -> tuple[int, ...]:
    field = model.fields.get(key)
    if field is not None and field.is_array and field.item_kind.name in ("UINT32", "INT32"):
        return tuple(int(item) for item in field.items) if field.count == n_layer else ()
    value = model.integer(key)
    return () if value is None else (value,) * n_layer


def _model_name(model: Container, path: Path) -> str:
    said = model.text("general.name") or ""
    plain = "".join(letter for letter in said if letter.isprintable()).strip()
    return (plain or path.stem)[:_MAX_NAME_CHARACTERS]


def _quantisation(model: Container) -> str:
    number = model.integer("general.file_type")
    with contextlib.suppress(ValueError):
        if number is not None:
            return str(LlamaFileType(number).name).removeprefix("MOSTLY_").removeprefix("ALL_")
    weights: dict[str, int] = {}
    for tensor in model.tensors:
        weights[tensor.kind.name] = weights.get(tensor.kind.name, 0) + tensor.elements
    return max(weights, key=lambda name: weights[name])


def facts_of(
    path: Path,
    timeout_s: float | None = None,
    *,
    watch: Watcher | None = None,
    command: Sequence[str] = CHILD,
) -> ModelFacts:
    """Have a limited child read a file. Blocking: call it from a thread.

    `timeout_s` defaults to what the slowest disk needs for the whole file. `command` starts the child; the path and the
    seconds that it may compute are appended.

    Raises:
        ModelFileError: no sound GGUF file, or no language model, or the child died of it.
        StorageError: the file cannot be read.
        SetupError: no child can be started.
    """
    if timeout_s is None:
        with contextlib.suppress(OSError):
            timeout_s = _PARSE_S + path.stat().st_size / _SLOWEST_READ_BYTES_PER_S
    limit_s = timeout_s or _PARSE_S
    try:
        child = subprocess.Popen(  # noqa: S603 - our own program, no shell
            [*command, str(path.absolute()), str(int(limit_s) + 1)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_child_environment(),
        )
    except OSError as exc:
        raise SetupError(f"no process can be started to read {path.name}: {exc.strerror}") from exc
    with child:
        try:
            return _listen(child, path, time.monotonic() + limit_s, watch)
        finally:
            child.kill()


def _child_environment() -> dict[str, str]:
    """Ours, with the package findable and numpy kept from starting a thread, and reserving memory, per core."""
    source_root = str(Path(__file__).parents[2])
    known = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": source_root if not known else f"{source_root}{os.pathsep}{known}",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }


def _listen(child: "subprocess.Popen[bytes]", path: Path, deadline: float, watch: Watcher | None) -> ModelFacts:
    assert child.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise ModelFileError(f"reading {path.name} took too long", code="model_file_timeout")
            data = os.read(child.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                answer = _decode(line, path)
                if isinstance(answer, ModelFacts):
                    return answer
                if watch is not None:
                    watch(answer.done_bytes, answer.total_bytes)
            if not data or len(rest) > _MAX_ANSWER_BYTES:
                raise ModelFileError(
                    f"{path.name} cannot be read within safe limits: the process that tried died of it"
                )


def _decode(line: bytes, path: Path) -> ModelFacts | Advance:
    try:
        answer: Advance | Outcome | Refusal = _answers.decode(line)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ModelFileError(f"{path.name} cannot be read: the process that tried spoke nonsense") from exc
    if isinstance(answer, Outcome):
        return answer.facts
    if isinstance(answer, Refusal):
        kinds: dict[str, type[SwarmError]] = {"StorageError": StorageError}
        raise kinds.get(answer.kind, ModelFileError)(answer.message, hint=answer.hint, code=answer.code)
    return answer
