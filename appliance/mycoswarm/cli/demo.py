"""`demo`: the main job, shown for real on this machine: daemons, discovery, trust, a cut model, one answer."""

import time
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from mycoswarm.base.errors import NotFoundError, SwarmError
from mycoswarm.base.units import format_seconds
from mycoswarm.cli.call import Call
from mycoswarm.cli.fleet import Fleet
from mycoswarm.cli.screen import clean, guarded, note, out, say, show_table, write
from mycoswarm.cli.talk import Reply, stream_chat
from mycoswarm.cli.things import upload

MAX_NODES = 8
PROMPT = "What is mycoSwarm?"
LIST_S = 15.0  # the coordinator looks at its own card each 2 s


@click.command()
@click.option("--prompt", default=PROMPT, show_default=True, help="What to ask.")
@click.option(
    "--nodes", "count", default=2, show_default=True, type=click.IntRange(2, MAX_NODES), help="How many workers."
)
@click.option("--model", "file", type=click.Path(path_type=Path), help="A GGUF file instead of the embedded model.")
@click.option("--max-tokens", default=120, show_default=True, type=click.IntRange(1, 4096), help="The longest answer.")
@guarded
def demo(prompt: str, count: int, file: Path | None, max_tokens: int) -> None:
    """Show the main job on this machine, offline: one prompt, answered over layer ranges on several nodes.

    Starts a coordinator and workers as real daemons on 127.0.0.1, in folders of their own that are removed afterwards.
    """
    began = time.monotonic()
    with Fleet(workers=count) as fleet:
        _step(f"1 coordinator and {count} workers run as daemons of their own", began)
        took_s = fleet.find()
        _step(f"They found each other by multicast DNS on 127.0.0.1 in {format_seconds(took_s)}", began)
        fleet.enrol()
        _step("The workers joined the swarm with one-time tokens; only now may they get work", began)
        call = fleet.coordinator.call
        model = _model(call, file)
        body = {
            "model": model["name"],
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": max_tokens,
            "logprobs": True,
        }
        _honest(call, body)
        names = [worker.name for worker in fleet.workers]
        split = _answer(call, body, f"split; stages={count}; nodes={','.join(names)}", prompt)
        _report(call, split, body)
        _compare(call, body, split)
        _step("Stopping the daemons; their folders are removed", began)


def _model(call: Call, file: Path | None) -> dict[str, Any]:
    """The model to show: the embedded one, or a file put on the coordinator's shelf."""
    model = _named(call, "spore") if file is None else put_model(call, file)
    say(
        f"  Model {model['name']}: {model['architecture']}, {model['parameters'] / 1e6:.1f} million parameters, "
        f"{model['layers']} layers, {model['quantisation']}"
    )
    return model


def put_model(call: Call, file: Path) -> dict[str, Any]:
    """Put a model file on a daemon's shelf, and wait until its swarm knows it.

    Raises:
        SwarmError: what the daemon said of the file.
    """
    return _listed(call, str(upload(call, file)["name"]))


def _listed(call: Call, name: str) -> dict[str, Any]:
    """Wait until the swarm knows the new model: the coordinator reads its own card like everybody's."""
    deadline = time.monotonic() + LIST_S
    while time.monotonic() < deadline:
        if any(one["id"] == name for one in call.ask("GET", "/v1/models")["data"]):
            return _named(call, name)
        time.sleep(0.1)
    raise SwarmError(f"the swarm does not list {name!r} yet")


def _named(call: Call, name: str) -> dict[str, Any]:
    models = call.ask("GET", "/api/models")["models"]
    found: dict[str, Any] | None = next((model for model in models if model["name"] == name), None)
    if found is None:
        raise NotFoundError(f"there is no model {name!r} here", hint="Name a file with `--model FILE.gguf`.")
    return found


def _honest(call: Call, body: dict[str, Any]) -> None:
    """Say what the software would do if nothing were asked of it."""
    told = call.ask("POST", "/api/explain", {key: body[key] for key in ("model", "messages")})
    if told["allowed"]:
        placed = " + ".join(s["node"] for s in told["stages"])
        say(f"  Left alone it would run on {placed}: {told['reason']}. This demo asks for a split on purpose.")
    else:
        say(f"  Left alone it would be refused: {told['reason']}.")


def _answer(call: Call, body: dict[str, Any], route: str, prompt: str | None) -> Reply:
    reply = Reply()
    if prompt is not None:
        out.print(Text(f"\n  {clean(prompt)}", style="bold"))
        write("  ")
    for text in stream_chat(call, body, reply, route):
        if prompt is not None:
            write(text.replace("\n", "\n  "))
    if prompt is not None:
        say("\n")
    return reply


def _report(call: Call, reply: Reply, body: dict[str, Any]) -> None:
    """Where it ran and how fast."""
    told, timing = reply.mycoswarm, reply.mycoswarm["timing"]
    show_table(
        ("Node", "Layers", "Part"),
        [
            (
                stage["node"],
                f"[{stage['layers'][0]}, {stage['layers'][1]})",
                "head: last layers, tokenizer, sampler" if stage is told["stages"][-1] else "layers",
            )
            for stage in told["stages"]
        ],
    )
    say(f"  Rule: {told['rule']}. Decision: {told['reason']}.")
    if timing["step_s"]:
        say(f"  Speed: {timing['steps'] / timing['step_s']:.1f} tokens/s ({reply.usage['completion_tokens']} tokens)")
    overhead = timing["hop_overhead_median_s"]
    if overhead is not None and timing["hops"]:
        say(f"  Hop overhead: {overhead * 1e6:.0f} µs per hop at the median, over {timing['hops']} hops per token")


def _compare(call: Call, body: dict[str, Any], split: Reply) -> None:
    """Run the same prompt on the uncut model, and hold the two against each other.

    Raises:
        SwarmError: they differ.
    """
    whole = _answer(call, body, "solo; nodes=coordinator", None)
    same_tokens = [entry["bytes"] for entry in split.logprobs] == [entry["bytes"] for entry in whole.logprobs]
    if not same_tokens or split.text != whole.text:
        raise SwarmError("the split answer differs from the uncut model's", hint="This is a bug: please report it.")
    pairs = zip(split.logprobs, whole.logprobs, strict=True)
    furthest = max((abs(one["logprob"] - other["logprob"]) for one, other in pairs), default=0.0)
    bits = "and so are their log-probabilities, bit for bit"
    if furthest:
        bits = f"their log-probabilities differ by at most {furthest:.2g}"
    say(f"  Split = whole: all {len(split.logprobs)} greedy tokens are the uncut model's, {bits}")


def _step(text: str, began: float) -> None:
    note(f"[{time.monotonic() - began:5.1f} s] {text}")
