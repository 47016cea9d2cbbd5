"""Train spore from nothing, on dialogues made up as it goes.

    python build/spore/train.py [--minutes 90] [--tokens-per-step 4096] [--seed 1] [--threads 1] [--resume]

Writes build/out/spore/{checkpoint.pt,log.txt}. The learning rate follows the clock: it rises over the
first steps and falls on a cosine to nothing when the minutes are over, so the run always ends with a finished model.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch
from dialogues import sheaf
from folder import OUT, TOKENIZER
from network import Network, Pieces, Shape, pieces
from text import render_sheaf, spoken
from tokens import Tokenizer, load
from torch import Tensor, nn
from torch.nn import functional

LONG_EVERY = 16
LONG_MOST = 1536
CHECKPOINT_EVERY_S = 240.0
WARMUP_STEPS = 30
RATE = 3e-3


@dataclass(frozen=True, slots=True)
class Batch:
    """Flat ids and positions, the next token where it is learned (else -100), and how the tokens hang together."""

    ids: Tensor
    positions: Tensor
    targets: Tensor
    layout: Pieces


def make_batch(rng: Random, tokenizer: Tokenizer, tokens: int, long: bool) -> Batch:
    """Whole sheaves, about `tokens` in all; `long` ones are conversations of many turns, up to LONG_MOST tokens."""
    ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    starts: list[int | None] = []
    while len(ids) < tokens - 100:
        before, after = render_sheaf(sheaf(rng, 2, 14) if long else sheaf(rng, 9))
        start = tokenizer.encode(before)
        first = len(lengths) if start else None
        said = [[(tokenizer.encode(part), learned) for part, learned in spoken(text)] for text in after]
        for parts in ([(start, False)] if start else [], *said):
            piece = [(token, learned) for part, learned in parts for token in part]
            if piece and len(start) + len(piece) <= LONG_MOST:
                begins = 0 if parts[0][0] is start else len(start)
                ids += [token for token, _ in piece]
                positions += range(begins, begins + len(piece))
                targets += [*(token if learned else -100 for token, learned in piece[1:]), -100]
                starts.append(None if parts[0][0] is start else first)
                lengths.append(len(piece))
    return Batch(torch.tensor(ids), torch.tensor(positions), torch.tensor(targets), pieces(lengths, starts))


def step_loss(network: Network, batch: Batch) -> Tensor:
    """The mean cross-entropy of the tokens that the assistant says."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = network(batch.ids, batch.positions, batch.layout)
        chosen = batch.targets >= 0
        logits = network.output(hidden[chosen])
    return functional.cross_entropy(logits.float(), batch.targets[chosen])


def optimizers(network: Network) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings, output and norms."""
    matrices = [weight for name, weight in network.named_parameters() if weight.dim() == 2 and name.startswith("blk")]
    others = [weight for name, weight in network.named_parameters() if weight.dim() != 2 or not name.startswith("blk")]
    return [
        torch.optim.Muon(matrices, lr=RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=RATE, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def save(path: Path, network: Network, optimizing: list[torch.optim.Optimizer], facts: dict[str, float]) -> None:
    """Write the checkpoint whole or not at all."""
    half = path.with_suffix(".half")
    state = {"network": network.state_dict(), "shape": asdict(network.shape), "facts": facts}
    torch.save({**state, "optimizers": [each.state_dict() for each in optimizing]}, half)
    half.replace(path)


def run(options: argparse.Namespace, clock: Callable[[], float] = time.monotonic) -> None:
    """Train for `options.minutes` and leave the checkpoint behind."""
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = load(TOKENIZER)
    network: Network = Network(Shape())
    optimizing = optimizers(network)
    facts = {"steps": 0.0, "tokens": 0.0, "learned_tokens": 0.0, "seconds": 0.0}
    if options.resume:
        held = torch.load(OUT / "checkpoint.pt")
        network.load_state_dict(held["network"])
        for optimizer, state in zip(optimizing, held["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        facts = held["facts"]
    rng = Random(f"train {options.seed} {facts['steps']}")
    began, before, saved = clock(), facts["seconds"], clock()
    step, mean = 0, 0.0
    while (share := (clock() - began) / (60 * options.minutes)) < 1:
        step += 1
        rate = RATE * options.rate * min(1.0, step / WARMUP_STEPS) * max(0.01, (1 + math.cos(math.pi * share)) / 2)
        batch = make_batch(rng, tokenizer, options.tokens_per_step, step % LONG_EVERY == 0)
        loss = step_loss(network, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizing:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        facts["steps"] += 1
        facts["tokens"] += len(batch.ids)
        facts["learned_tokens"] += int((batch.targets >= 0).sum())
        facts["seconds"] = before + clock() - began
        latest = float(loss.detach())
        mean = latest if step == 1 else 0.98 * mean + 0.02 * latest
        if step % 20 == 0:
            done = f"{facts['tokens'] / 1e6:.2f}M tokens {facts['seconds']:.0f} s"
            line = f"step {int(facts['steps'])} loss {mean:.4f} rate {rate:.5f} {done}"
            with (OUT / "log.txt").open("a", encoding="utf-8") as log:
                log.write(line + "\n")
        if clock() - saved > CHECKPOINT_EVERY_S:
            save(OUT / "checkpoint.pt", network, optimizing, facts)
            saved = clock()
    save(OUT / "checkpoint.pt", network, optimizing, facts)


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description="Train spore.")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, default=1.0, help="a factor on the learning rate")
    parser.add_argument("--resume", action="store_true", help="continue from checkpoint.pt with a fresh schedule")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
