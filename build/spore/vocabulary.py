"""The tokenizer of a seed: the same seed and the same generator, the same table.

    python build/spore/vocabulary.py

writes tokenizer.json with the table of seed 1. The file is kept, because weights are bound to it: a new phrase in the
generator may move a token, and then the network has to be trained from nothing.
"""

from random import Random

from dialogues import sheaf
from folder import TOKENIZER
from text import render_sheaf
from tokens import Tokenizer, train

SIZE = 1024
_ATTACHED = 224


def make_tokenizer(seed: int, sheaves: int = 3000) -> Tokenizer:
    """Trained on four dialogues from each of `sheaves`; a system block is counted one time in four."""
    rng = Random(f"tokenizer {seed}")
    texts: list[str] = []
    for _ in range(sheaves):
        before, after = render_sheaf(sheaf(rng, 4))
        texts += after if rng.random() < 0.75 else [before, *after]
    return train(texts, SIZE, _ATTACHED)


if __name__ == "__main__":
    make_tokenizer(1).save(TOKENIZER)
