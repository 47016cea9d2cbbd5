"""Reports: what a stage says back, over stdout to its daemon and over the ring stream to the coordinator."""

from typing import Annotated

import msgspec

MAX_VECTOR_BYTES = 64 << 10  # 16,384 floats; the widest models in use have 8,192
MAX_TIMED_STAGES = 512  # more than models have layers
Seconds = Annotated[float, msgspec.Meta(ge=0, lt=1e9)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]  # exact in a double and in SQLite, whoever sent it


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="report"):
    """Base of all reports."""


class Nonce(Report, frozen=True, tag="nonce"):
    """Node to coordinator, first on a ring stream."""

    nonce: str


class Progress(Report, frozen=True, tag="progress"):
    """How far loading is. `what`: "fetching pieces", "loading layers"."""

    what: str
    done_bytes: Count
    total_bytes: Count


class Ready(Report, frozen=True, tag="ready"):
    """The stage has loaded its layers and listens. `devices` names where its layers lie, for people.

    `layer_devices` holds one name per layer. Bytes are as llama.cpp reports them.
    """

    certificate_pem: str
    addresses: tuple[str, ...]
    port: int
    devices: tuple[str, ...] = ()
    layer_devices: tuple[str, ...] = ()
    load_s: float = 0.0


class Joined(Report, frozen=True, tag="joined"):
    """Connected to both neighbours; frames may flow."""


class Admitted(Report, frozen=True, tag="admitted"):
    """The request may use this stage."""

    request_id: str


class TopLogprob(msgspec.Struct, frozen=True):
    """One candidate token. `logprob` is a natural logarithm, of the model's distribution before sampling."""

    token_id: int
    token: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True):
    """The chosen token and the likeliest others."""

    token_id: int
    token: bytes
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class Piece(Report, frozen=True, tag="piece"):
    """Text that is certain now, with the ids of all tokens sampled since the last piece.

    Text is held back while it could be the start of a stop string or half a character, so `text` may be empty and
    `token_ids` several.
    """

    request_id: str
    text: str
    token_ids: tuple[Count, ...]
    logprobs: tuple[TokenLogprob, ...] | None = None


class Vector(Report, frozen=True, tag="vector"):
    """The embedding of input `index`, in their order. `values`: little-endian float32s, a vector of length 1 (or all 0,
    where the model gave nothing else)."""

    request_id: str
    index: Count
    values: Annotated[bytes, msgspec.Meta(min_length=4, max_length=MAX_VECTOR_BYTES)]


class StageTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Of one stage at the median step of decoding: inside llama.cpp (the head: and sampling), and how long its frame is
    on the way to the next stage, from before it is encrypted to after it is read; None where that is not known."""

    compute_median_s: Seconds
    hop_median_s: Seconds | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds on the head's monotonic clock. `step_s` are whole ring steps of decoding (one token each, prefill left
    out), `compute_s` their part inside llama.cpp summed over all stages; `hops` per step. `queued_s`: until its prompt
    was read and its first row sent. `stages`: in ring order."""

    prefill_s: Seconds
    decode_s: Seconds
    steps: Count
    step_s: Seconds
    compute_s: Seconds
    hops: Count
    hop_overhead_median_s: Seconds | None = None
    queued_s: Seconds | None = None
    stages: Annotated[tuple[StageTiming, ...], msgspec.Meta(max_length=MAX_TIMED_STAGES)] = ()


def fits(timing: Timing, within_s: float) -> bool:
    """Whether what a head told can be: no part of a request takes longer than all of it took here."""
    parts = [timing.hop_overhead_median_s or 0, (timing.queued_s or 0) + timing.prefill_s + timing.decode_s]
    parts += [one.compute_median_s + (one.hop_median_s or 0) for one in timing.stages]
    return max(parts) <= 1.001 * within_s  # clocks drift


class Finished(Report, frozen=True, tag="finished"):
    """The answer is whole. `reason`: "stop" (end token or stop string), "length" (max_tokens or context),
    "cancelled"."""

    request_id: str
    reason: Annotated[str, msgspec.Meta(max_length=32)]
    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count = 0
    seed: Count = 0
    timing: Timing | None = None


def believed(report: Finished, within_s: float) -> Finished:
    """The same, without times that cannot be."""
    is_so = report.timing is None or fits(report.timing, within_s)
    return report if is_so else msgspec.structs.replace(report, timing=None)


class Failed(Report, frozen=True, tag="failed"):
    """A typed error. `request_id` None: the stage or ring itself is lost, and every request on it."""

    request_id: str | None
    code: Annotated[str, msgspec.Meta(max_length=64)]
    message: str
    hint: str
    status: int = 500
    retry_after_s: Count | None = None
    last_words: tuple[str, ...] = ()
    lost_node_id: str | None = None


class Pong(Report, frozen=True, tag="pong"):
    """Sign of life; nothing else."""


class Barred(Report, frozen=True, tag="barred"):
    """Stage to daemon only: its egress guard refused something. `kind`, `where` and `count` as in base/egress.py."""

    kind: Annotated[str, msgspec.Meta(max_length=32)]
    where: Annotated[str, msgspec.Meta(max_length=255)]
    count: Count


AnyReport = Nonce | Progress | Ready | Joined | Admitted | Piece | Vector | Finished | Failed | Pong | Barred
