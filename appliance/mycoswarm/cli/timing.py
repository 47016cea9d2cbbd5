"""`bench`: what a ring costs beside the arithmetic."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import click

from mycoswarm.catalog.sample import HEAD_WIDTH, write_sample
from mycoswarm.cli.call import Call
from mycoswarm.cli.demo import put_model
from mycoswarm.cli.fleet import Fleet
from mycoswarm.cli.screen import guarded, note, say, show_json, show_table
from mycoswarm.cli.talk import Reply, stream_chat

F32_BYTES = 4
KINDS = ("light", "real")

Taken = dict[str, list[dict[str, Any]]]  # by route, "whole" and "split": the timing of each round


@click.group()
def bench() -> None:
    """Measure this machine."""


@bench.command()
@click.option("--stages", default=2, show_default=True, type=click.IntRange(2, 8), help="Stages in the ring.")
@click.option(
    "--width", default=2048, show_default=True, type=click.IntRange(64, 16384), help="Values per hidden state."
)
@click.option("--tokens", default=128, show_default=True, type=click.IntRange(8, 1024), help="Tokens per round.")
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1, 50), help="Rounds, whole and split in turn."
)
@click.option(
    "--layers",
    type=click.Choice(["both", *KINDS]),
    default="both",
    show_default=True,
    help="Light layers stay in caches: the hop alone. Real ones, as large as this width's, leave caches cold for it.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@guarded
def ring(stages: int, width: int, tokens: int, rounds: int, layers: str, as_json: bool) -> None:
    """Measure hop overhead: the time of a ring step less the time inside llama.cpp, per hop.

    Real daemons on 127.0.0.1, mutual TLS 1.3, models of random weights; whole and split in turn.
    """
    width -= width % HEAD_WIDTH
    kinds = KINDS if layers == "both" else (layers,)
    taken = {kind: _measure(kind, stages=stages, width=width, tokens=tokens, rounds=rounds) for kind in kinds}
    figures = {kind: _figures(timings, stages=stages, width=width) for kind, timings in taken.items()}
    if as_json:
        show_json(figures)
        return
    for kind, shown in figures.items():
        _show(kind, shown)


def _measure(kind: str, *, stages: int, width: int, tokens: int, rounds: int) -> Taken:
    """Timings of answers over the whole and the split model, in turn."""
    with tempfile.TemporaryDirectory(prefix="mycoswarm-") as folder, Fleet(workers=stages) as fleet:
        path = Path(folder, f"random-{kind}.gguf")
        write_sample(path, n_layer=stages, n_embd=width, is_light=kind == "light")
        fleet.enrol()
        call = fleet.coordinator.call
        model = put_model(call, path)
        split = f"split; stages={stages}; nodes={','.join(worker.name for worker in fleet.workers)}"
        routes = {"whole": "solo; nodes=coordinator", "split": split}
        body = {
            "model": model["name"],
            "prompt": "hello",
            "temperature": 0,
            "max_tokens": tokens,
            "logit_bias": {"2": -100},
        }
        taken: Taken = {name: [] for name in routes}
        for number in range(rounds + 1):
            for name, route in routes.items():
                timing = _round(call, body, route)
                if number:  # the first round loads the model
                    taken[name].append(timing)
            note(f"{kind} layers: round {number} of {rounds}")
    return taken


def _round(call: Call, body: dict[str, Any], route: str) -> dict[str, Any]:
    reply = Reply()
    for _ in stream_chat(call, body, reply, route, path="/v1/completions"):
        pass
    timing: dict[str, Any] = reply.mycoswarm["timing"]
    return timing


def _figures(taken: Taken, *, stages: int, width: int) -> dict[str, float]:
    def median(name: str, key: str) -> float:
        return float(statistics.median(one[key] / one["steps"] for one in taken[name]))

    hop_s = statistics.median(one["hop_overhead_median_s"] for one in taken["split"])
    return {
        "stages": stages,
        "hidden_bytes": width * F32_BYTES,
        "rounds": len(taken["split"]),
        "hop_overhead_us": hop_s * 1e6,
        "split_step_us": median("split", "step_s") * 1e6,
        "split_compute_us": median("split", "compute_s") * 1e6,
        "whole_step_us": median("whole", "step_s") * 1e6,
        "split_to_whole_speed": median("whole", "step_s") / median("split", "step_s"),
    }


def _show(kind: str, figures: dict[str, float]) -> None:
    say(f"Hop overhead with {kind} layers: {figures['hop_overhead_us']:.0f} µs per hop at the median")
    rows = [
        ("hidden state per token", f"{figures['hidden_bytes']:.0f} bytes"),
        ("step of the split ring", f"{figures['split_step_us']:.0f} µs"),
        ("  of it inside llama.cpp", f"{figures['split_compute_us']:.0f} µs"),
        ("step of the uncut model", f"{figures['whole_step_us']:.0f} µs"),
        ("speed, split to whole", f"{figures['split_to_whole_speed']:.2f}"),
    ]
    show_table((f"{figures['stages']:.0f} stages, {figures['rounds']:.0f} rounds", "median"), rows)
