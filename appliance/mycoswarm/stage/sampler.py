"""How one answer's tokens are chosen from logits. On the head only; one sampler per sequence.

Order, each part only where the request asks for it:
 1. logit bias
 2. grammar (JSON schema or tool calls; of calls that the model begins by itself: leash.py), over all tokens, so that
    what it lets through is exactly the model's distribution over it
 3. repeat penalty over the last 64 tokens, the prompt's among them (llama.cpp's and Ollama's meaning)
 4. frequency and presence penalties over all generated tokens, never the prompt's (OpenAI's meaning):
    logit -= count * frequency + (count > 0) * presence
 5. top-k, top-p, min-p, on the distribution before temperature (llama.cpp's order); each leaves at least one token
 6. temperature, then one draw with the seed; or, at temperature 0, the likeliest token (parts 1 to 4 before it)
"""

import math
import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mycoswarm.base.errors import InputError, StageError
from mycoswarm.stage import llama
from mycoswarm.stage.form import form_grammar
from mycoswarm.stage.leash import Leash
from mycoswarm.stage.schema import schema_grammar
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.report import TokenLogprob, TopLogprob
from mycoswarm.wire.request import Sampling

REPEAT_LAST_N = 64  # llama.cpp's and Ollama's default
GREEDY_BELOW = 1e-3  # dividing logits by less overflows; the likeliest token has all the probability there anyway
MAX_ANSWER_TOKENS = 1 << 20  # penalties count all of an answer; longer than any context in use
_STRIDE = 0x9E3779B1  # odd, near 2**32 divided by the golden ratio: far from the seeds that clients choose in a row
_SEEDS = 2**32 - 1  # llama.cpp takes [0, this); this itself means a random seed


class Sampler:
    """Chooses the tokens of one answer: `sample(row)`, then `accept(token)`. The same seed gives the same tokens."""

    def __init__(self, vocabulary: Vocabulary, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        """`prompt`: its last tokens count for the repeat penalty.

        Raises:
            InputError: values out of range, tokens that do not exist, a schema that cannot be used.
        """
        _check(sampling, vocabulary.n_vocab)
        self._vocabulary = vocabulary
        self._candidates = llama.Candidates(vocabulary.n_vocab)
        self.seed = (secrets.randbelow(_SEEDS) if sampling.seed is None else sampling.seed) % _SEEDS
        n_vocab = vocabulary.n_vocab
        self._biases = [llama.logit_bias(n_vocab, sampling.logit_bias)] if sampling.logit_bias else []
        self._grammar: llama.SamplerPart | None = None
        if sampling.json_schema is not None:
            self._grammar = vocabulary.model.grammar(schema_grammar(sampling.json_schema))
        self._leash: Leash | None = None
        if (form := sampling.call_form) is not None and not form.is_free:
            self._grammar = vocabulary.model.grammar(form_grammar(form, form.ways[0]))
        elif form is not None and vocabulary.end_id is not None:
            self._leash = Leash(vocabulary, self._candidates, form, frozenset(sampling.shown))
        self._count = 0  # tokens of the answer
        self._repeats = _penalties(n_vocab, sampling)
        self._truncation: list[llama.SamplerPart] = []
        self._is_greedy = sampling.temperature < GREEDY_BELOW
        if self._is_greedy:
            self._choice = llama.greedy()
        else:
            self._truncation = llama.truncation(top_k=sampling.top_k, top_p=sampling.top_p, min_p=sampling.min_p)
            self._truncation.append(llama.temperature(sampling.temperature))
            self._choice = llama.distribution(self.seed)
        if sampling.repeat_penalty != 1:
            for token in prompt[-REPEAT_LAST_N:]:
                self._repeats[0].accept(token)

    def sample(self, row: NDArray[np.float32]) -> int:
        """Choose a token from the logits float32[n_vocab] of a sequence's last position.

        Raises:
            StageError: logits that are no numbers; or (code "grammar_stuck") the grammar lets no token through.
            InputError: llama.cpp cannot read the grammar of a call that the model begins.
        """
        if len(row) != self._vocabulary.n_vocab or not math.isfinite(float(row.max())):
            raise StageError("the model's logits are not numbers", hint="The model file may be damaged.")
        leash = self._leash
        token = self._choose(row, self._grammar if leash is None else leash.grammar, self._choice)
        if leash is None or (misfit := leash.misfit(token)) is None:
            return token
        if self._is_greedy:
            return self._choose(row, misfit, self._choice)
        # One draw of the seed for each token, as `resume` counts them; this one more has a seed of its own.
        again = llama.distribution((self.seed + (self._count + 1) * _STRIDE) % _SEEDS)
        try:
            return self._choose(row, misfit, again)
        finally:
            again.close()

    def _choose(self, row: NDArray[np.float32], grammar: llama.SamplerPart | None, choice: llama.SamplerPart) -> int:
        candidates = self._candidates
        candidates.fill(row)
        for part in self._biases:
            part.apply(candidates)
        if grammar is not None:
            grammar.apply(candidates)
            if candidates.best == -math.inf:
                raise StageError(
                    "no token of the model continues this JSON schema",
                    code="grammar_stuck",
                    hint="Loosen the schema, or take another model.",
                )
        for part in (*self._repeats, *self._truncation, choice):
            part.apply(candidates)
        return candidates.selected

    def accept(self, token: int) -> None:
        """Take a token into the answer: the sampled one, or one that stands already.

        Raises:
            InputError: the grammar does not allow it here (code "grammar_mismatch"), or there is no such token.
        """
        if not 0 <= token < self._vocabulary.n_vocab:
            raise InputError(f"there is no token {token}: the model has {self._vocabulary.n_vocab}")
        if self._grammar is not None:
            self._candidates.fill_one(token)
            self._grammar.apply(self._candidates)
            if self._candidates.best == -math.inf:
                raise InputError(f"token {token} does not fit the JSON schema here", code="grammar_mismatch")
            self._grammar.accept(token)
        elif self._leash is not None:
            self._leash.accept(token)
        self._count += 1
        for part in self._repeats:
            part.accept(token)

    def resume(self, tokens: Sequence[int]) -> None:
        """Take over an answer begun elsewhere with the same settings and seed: what comes next is what would have come
        there.

        Raises:
            InputError: as `accept`.
        """
        for token in tokens:
            if not self._is_greedy:
                self._candidates.fill_one(token)
                self._choice.apply(self._candidates)  # one draw per token, as when it was sampled
            self.accept(token)

    def close(self) -> None:
        """Free everything; before the engine's close()."""
        grammar = [part for part in (self._grammar, self._leash) if part is not None]
        for part in (*self._biases, *grammar, *self._repeats, *self._truncation, self._choice):
            part.close()


def token_logprob(vocabulary: Vocabulary, row: NDArray[np.float32], token: int, top: int) -> TokenLogprob:
    """Natural log-probabilities in the model's own distribution (before bias, grammar, penalties and temperature): of
    `token`, and of the `top` likeliest, likeliest first, the lower id first among equals."""
    logits = row.astype(np.float64)
    logits -= logits.max()
    logits -= math.log(float(np.exp(logits).sum()))
    best: tuple[TopLogprob, ...] = ()
    if top > 0:
        count = min(top, len(logits))
        floor = np.partition(logits, len(logits) - count)[len(logits) - count]
        ids = np.flatnonzero(logits >= floor)
        ids = ids[np.argsort(-logits[ids], kind="stable")][:count]
        best = tuple(TopLogprob(int(i), vocabulary.token_bytes(int(i)), float(logits[i])) for i in ids)
    return TokenLogprob(token, vocabulary.token_bytes(token), float(logits[token]), best)


def _penalties(n_vocab: int, sampling: Sampling) -> list[llama.SamplerPart]:
    parts = []
    if sampling.repeat_penalty != 1:
        repeat = sampling.repeat_penalty
        parts.append(llama.penalties(n_vocab, last_n=REPEAT_LAST_N, repeat=repeat, frequency=0, presence=0))
    if sampling.frequency_penalty or sampling.presence_penalty:
        parts.append(
            llama.penalties(
                n_vocab,
                last_n=MAX_ANSWER_TOKENS,
                repeat=1,
                frequency=sampling.frequency_penalty,
                presence=sampling.presence_penalty,
            )
        )
    return parts


def _check(sampling: Sampling, n_vocab: int) -> None:
    ranges = (
        ("temperature", sampling.temperature, 0, 100),
        ("top_p", sampling.top_p, 0, 1),
        ("min_p", sampling.min_p, 0, 1),
        ("repeat_penalty", sampling.repeat_penalty, 0.01, 100),
        ("frequency_penalty", sampling.frequency_penalty, -100, 100),
        ("presence_penalty", sampling.presence_penalty, -100, 100),
        ("top_k", sampling.top_k, -1, 2**31 - 1),
    )
    for name, value, low, high in ranges:
        if not low <= value <= high:  # also false for NaN
            raise InputError(f"{name} is {value}, which is not between {low} and {high}")
    for token, bias in sampling.logit_bias.items():
        if not 0 <= token < n_vocab:
            raise InputError(f"logit_bias names token {token}; the model has {n_vocab}")
        if not -1e6 <= bias <= 1e6:
            raise InputError(f"logit_bias of token {token} is {bias}, which is out of range")
