"""Under which conditions a model does a task, and what it costs then in bytes: what placement reckons with."""

from typing import get_args

from mycoswarm.base.errors import ModelError
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.routing.placement import Load
from mycoswarm.routing.snapshot import EMBEDDING
from mycoswarm.wire.plan import Conditions, Pooling, RingPlan, embedding_under

F32_BYTES = 4
EMBEDDED_TOKENS = 2048  # of one text at most: scores of all against all, which grow with the square, stay small
BUFFER_ROWS = 24  # activations of n_embd floats that llama.cpp's graph holds per token, measured with margin


def fitted(conditions: Conditions, facts: ModelFacts, task: str) -> Conditions:
    """The conditions for a task. A text to embed is one step, as long as the context or `EMBEDDED_TOKENS`.

    Where the file does not say how to pool, it is the mean.

    Raises:
        ModelError: the model makes no vector of a text.
    """
    if task != EMBEDDING:
        return conditions
    pooling = next((each for each in get_args(Pooling) if each == (facts.pooling or "mean")), None)
    if pooling is None:
        raise ModelError(
            f"{facts.name} makes no vector of a text: its file says pooling {facts.pooling}",
            hint="Use a model for embeddings.",
            code="no_embeddings",
        )
    return embedding_under(conditions, pooling, min(conditions.n_ctx, EMBEDDED_TOKENS))


def load_of(facts: ModelFacts, conditions: Conditions) -> Load:
    """What the model costs under these conditions. Compute buffers are estimated: `BUFFER_ROWS` rows of n_embd floats
    per token of a step, and attention scores of one step over the whole context for n_embd / 64 heads."""
    c = conditions
    scores = c.n_ubatch * c.n_ctx * max(1, facts.n_embd // 64) * F32_BYTES
    return Load(
        layer_bytes=facts.layer_bytes,
        kv_bytes=tuple(per_token * c.n_ctx for per_token in facts.kv_bytes_per_token),
        output_bytes=facts.output_bytes,
        head_bytes=facts.output_bytes + c.n_ubatch * facts.n_vocab * F32_BYTES,
        buffer_bytes=c.n_ubatch * facts.n_embd * BUFFER_ROWS * F32_BYTES + scores,
        cuts=facts.cuts,
    )


def stage_bytes(load: Load, plan: RingPlan) -> dict[str, int]:
    """What each node of a plan is reckoned to give, in bytes."""
    taken = {}
    for stage in plan.stages:
        held = sum(load.layer_bytes[stage.first : stage.last]) + sum(load.kv_bytes[stage.first : stage.last])
        taken[stage.node_id] = held + load.buffer_bytes + (load.head_bytes if stage.last == plan.n_layer else 0)
    return taken
