"""What a head works with, as protocols: the last layers, their vocabulary, a sampler per answer, one worker thread."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import StageError
from mycoswarm.stage.engine import Batch, Decoded, Engine
from mycoswarm.stage.prompt import Words
from mycoswarm.stage.sampler import Sampler, token_logprob
from mycoswarm.stage.worker import Worker
from mycoswarm.wire.report import TokenLogprob
from mycoswarm.wire.request import Sampling


class LastLayers(Protocol):
    """What a head needs of an engine; stage/engine.py is the real one. Used in the worker thread only."""

    def decode(self, batch: Batch) -> Decoded:
        """Compute one step."""

    def logits(self, row: int) -> NDArray[np.float32]:
        """Logits of a wanted row of the last batch."""

    def remove(self, sequence: int, first: int, last: int) -> None:
        """Forget KV positions."""


class Vocabulary(Words, Protocol):
    """What a head needs of a vocabulary; stage/vocabulary.py is the real one."""

    def token_bytes(self, token: int, shown: frozenset[str] = frozenset()) -> bytes:
        """Bytes that a token adds to an answer; those of control tokens of these texts are shown."""

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""


class Chooser(Protocol):
    """What a head needs of a sampler; stage/sampler.py is the real one. Used in the worker thread only."""

    seed: int

    def sample(self, row: NDArray[np.float32]) -> int:
        """Choose a token."""

    def accept(self, token: int) -> None:
        """Take a token into the answer."""

    def resume(self, tokens: Sequence[int]) -> None:
        """Take over an answer begun elsewhere."""

    def close(self) -> None:
        """Free it."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a head works with. `worker` has one thread. `choose` makes a sampler for a request and its prompt's tokens;
    `logprob` reads a token's log-probability, and those of the likeliest, from a row of logits."""

    layers: LastLayers
    vocabulary: Vocabulary
    worker: Worker
    choose: Callable[[Sampling, Sequence[int]], Chooser]
    logprob: Callable[[NDArray[np.float32], int, int], TokenLogprob]


def equip(engine: Engine, worker: Worker) -> Equipment:
    """Equip a head with real layers.

    Raises:
        StageError: these are not the last layers.
    """
    vocabulary = engine.vocabulary
    if vocabulary is None:
        raise StageError("a head needs the model's last layers")
    return Equipment(
        layers=engine,
        vocabulary=vocabulary,
        worker=worker,
        choose=partial(Sampler, vocabulary),
        logprob=partial(token_logprob, vocabulary),
    )
