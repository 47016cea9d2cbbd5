"""The models that there are, as OpenAI's API lists them: those of nodes first, then those of endpoints."""

from typing import Any

from mycoswarm.catalog.facts import ModelFacts


def assortment(
    held: list[tuple[ModelFacts, tuple[str, ...]]], elsewhere: dict[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Each model once. `held`: with the names of its holders. `elsewhere`: by the endpoint's name, its models."""
    listed = [_model(*one) for one in held]
    known = {one["id"] for one in listed}
    names: dict[str, list[str]] = {}
    for endpoint, models in elsewhere.items():
        for name in models:
            names.setdefault(name, []).append(endpoint)
    return listed + [
        {"id": name, "object": "model", "created": 0, "owned_by": held_by[0], "mycoswarm": {"endpoints": held_by}}
        for name, held_by in names.items()
        if name not in known
    ]


def _model(facts: ModelFacts, holders: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id": facts.name,
        "object": "model",
        "created": 0,
        "owned_by": "mycoswarm",
        "mycoswarm": {
            "digest": facts.digest,
            "architecture": facts.architecture,
            "quantisation": facts.quantisation,
            "layers": facts.n_layer,
            "context_tokens": facts.n_ctx_train,
            "file_bytes": facts.file_bytes,
            "splittable": facts.splittable,
            "pooling": facts.pooling,
            "embedding_width": facts.n_embd,
            "held_by": list(holders),
        },
    }
