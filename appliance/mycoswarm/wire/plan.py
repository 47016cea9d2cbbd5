"""A ring's plan: which node runs which layers of which model, and the conditions that all stages share."""

from typing import Literal

import msgspec

Pooling = Literal["mean", "cls", "last"]


class Conditions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must be equal on all stages for split and whole to agree bit for bit (DESIGN 3.6).

    `n_ctx` is the KV cache in tokens, shared by all `n_seq_max` sequences (`kv_unified`). At most `n_ubatch` tokens go
    into one step. `n_threads` is the count of llama.cpp's CPU threads. Types are ggml names. `pooling` makes it a ring
    of one that embeds texts and does nothing else: how the states of a text's tokens become one vector.
    """

    n_ctx: int
    n_ubatch: int = 256
    n_seq_max: int = 4
    n_threads: int = 1
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = False
    pooling: Pooling | None = None


class StagePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage: layers [first, last) on one node. A plan carries node ids, never addresses."""

    node_id: str
    first: int
    last: int


class RingPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ring. `stages` are in layer order and cover [0, n_layer) without gap; the last one is the head."""

    ring_id: str
    model_digest: str
    n_layer: int
    holder_id: str
    stages: tuple[StagePlan, ...]
    conditions: Conditions

    @property
    def head(self) -> StagePlan:
        """The stage with the last layers, the tokenizer and the sampler."""
        return self.stages[-1]


def embedding_under(conditions: Conditions, pooling: Pooling, n_ctx: int) -> Conditions:
    """The conditions of a ring that embeds: each text is one sequence in one step, up to the whole of the context."""
    return msgspec.structs.replace(conditions, n_ctx=n_ctx, n_ubatch=n_ctx, n_seq_max=1, pooling=pooling)


def plan_fault(plan: RingPlan) -> str | None:
    """Say what makes a plan impossible, or None where it is sound."""
    if not plan.stages:
        return "the plan has no stages"
    expected = 0
    for stage in plan.stages:
        if stage.first != expected or stage.last <= stage.first:
            return (
                f"stage of node {stage.node_id} holds layers [{stage.first}, {stage.last}) where {expected} comes next"
            )
        expected = stage.last
    if expected != plan.n_layer:
        return f"the stages end at layer {expected} of {plan.n_layer}"
    if len({stage.node_id for stage in plan.stages}) != len(plan.stages):
        return "a node stands twice in the plan"
    c = plan.conditions
    if not (0 < c.n_ubatch <= c.n_ctx and 0 < c.n_seq_max <= 64 and 0 < c.n_threads <= 512):
        return "the plan's conditions are out of range"
    if c.pooling is not None and len(plan.stages) > 1:
        return "a ring that embeds has one stage"
    return None
