"""What a model costs in bytes under given conditions: what placement reckons with."""

from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.routing.placement import Load
from mycoswarm.wire.plan import Conditions, RingPlan

F32_BYTES = 4
BUFFER_ROWS = 24  # activations of n_embd floats that llama.cpp's graph holds per token, measured with margin


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
