"""Score spore.gguf in llama.cpp, greedily, on held-out dialogues of each kind, and write the table into the card.

    python build/spore/score.py [--many 200] [--seed 1] [--file ...] [--card]

Every score is of exact answers: a call counts when its name and its arguments are equal to the expected ones, a text
when every character is. After a call the expected tool result is given, whatever was called.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dialogues import KINDS, Dialogue, held_out
from folder import CARD, MODEL
from llama_cpp import Llama
from text import ENDS, render

ANSWER_TOKENS_MOST = 160
_BEGIN, _END = "<!-- scores -->\n", "<!-- /scores -->"


@dataclass(slots=True)
class Score:
    """How many of `asked` dialogues had the exact call (None where no call is due) and the exact answer."""

    asked: int = 0
    calls: int | None = None
    answers: int = 0


def open_model(file: Path, threads: int = 1) -> Llama:
    """The model in llama.cpp, on the processor."""
    return Llama(str(file), n_ctx=2048, n_threads=threads, n_threads_batch=threads, n_gpu_layers=0, verbose=False)


def reply(model: Llama, messages: Sequence[dict[str, object]], tools: Sequence[Any]) -> str:
    """The assistant's next message as text, greedy, without its end mark."""
    prompt = model.tokenize(render(messages, tools, add_generation_prompt=True).encode(), add_bos=False, special=True)
    end = model.tokenize(ENDS.encode(), add_bos=False, special=True)[0]
    said: list[int] = []
    for token in model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0):
        if token == end or len(said) == ANSWER_TOKENS_MOST:
            break
        said.append(token)
    return bytes(model.detokenize(said)).decode(errors="replace")


def called(text: str) -> tuple[str, object] | None:
    """(name, arguments) of a text that is one tool call and nothing else; None where it is not."""
    if not (text.startswith("<tool_call>") and text.endswith("</tool_call>")):
        return None
    try:
        call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        return str(call["name"]), call["arguments"]
    except (ValueError, KeyError, TypeError):
        return None


def judge(model: Llama, dialogue: Dialogue) -> tuple[bool | None, bool, list[str]]:
    """(the call is exact, the answer is exact, what was said)."""
    messages, right, said = list(dialogue.messages), None, []
    if len(messages) > 2:
        wanted: Any = messages[1]["tool_calls"]
        function = wanted[0]["function"]
        said.append(reply(model, messages[:1], dialogue.tools))
        right = called(said[-1]) == (function["name"], function["arguments"])
    said.append(reply(model, messages[:-1], dialogue.tools))
    return right, said[-1] == messages[-1]["content"], said


def score(model: Llama, many: int, seed: int, *, show: bool = False) -> dict[str, Score]:
    """`many` held-out dialogues of each kind; `show` prints the ones that went wrong."""
    scores = {kind: Score() for kind in KINDS}
    for kind, kept in scores.items():
        for dialogue in islice(held_out(seed, kind), many):
            right, exact, said = judge(model, dialogue)
            kept.asked += 1
            kept.answers += exact
            if right is not None:
                kept.calls = (kept.calls or 0) + right
            if show and not (exact and right in (None, True)):
                sys.stdout.write(f"{kind}: {[message.get('content') for message in dialogue.messages]} -> {said}\n")
    return scores


def table(scores: dict[str, Score]) -> str:
    """The scores as a Markdown table."""
    lines = ["| kind | dialogues | exact tool calls | exact answers |", "| --- | ---: | ---: | ---: |"]
    for kind, kept in scores.items():
        calls = "" if kept.calls is None else f"{100 * kept.calls / kept.asked:.1f}%"
        lines.append(f"| {kind} | {kept.asked} | {calls} | {100 * kept.answers / kept.asked:.1f}% |")
    called_ones = [kept for kept in scores.values() if kept.calls is not None]
    asked, right = sum(kept.asked for kept in called_ones), sum(kept.calls or 0 for kept in called_ones)
    every, exact = sum(kept.asked for kept in scores.values()), sum(kept.answers for kept in scores.values())
    lines.append(f"| **all** | {every} | **{100 * right / asked:.1f}%** of {asked} | {100 * exact / every:.1f}% |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Score, print, and with --card write the table into the card."""
    parser = argparse.ArgumentParser(description="Score spore.gguf on held-out dialogues.")
    parser.add_argument("--many", type=int, default=200, help="dialogues of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", type=Path, default=MODEL)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print what went wrong")
    parser.add_argument("--card", action="store_true", help="write the table into the card")
    options = parser.parse_args()
    made = table(score(open_model(options.file, options.threads), options.many, options.seed, show=options.show))
    sys.stdout.write(made)
    if options.card:
        before, rest = CARD.read_text(encoding="utf-8").split(_BEGIN)
        after = rest.split(_END)[1]
        CARD.write_text(before + _BEGIN + made + _END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
