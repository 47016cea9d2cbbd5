"""Lets a model write as it likes until it begins a tool call, and holds that call to its form and the tool's schema.

llama.cpp has such a switch (`llama_sampler_init_grammar_lazy_patterns`), and it cannot be used: where one token holds
an opening and what does not fit behind it ('{"' where a space must follow), it ends the process; and what it has begun
to hold it never lets go, so nothing could be said after a call. So the switch is here: a token that would begin a call
and does not fit is not taken, and another is chosen among those that begin one and fit, or might still; a call that is
whole is let go.

Covered: each opening of the form, wherever tokens are cut. Not covered: a token that begins within a character and goes
on behind an opening (no vocabulary that was looked at has one); its call is not held.
"""

import math

from mycoswarm.base.errors import InputError
from mycoswarm.stage.form import form_grammar
from mycoswarm.stage.llama import Candidates, SamplerPart
from mycoswarm.stage.opening import Lookout
from mycoswarm.stage.vocabulary import Vocabulary
from mycoswarm.wire.request import CallForm, CallWay


class Leash:
    """For one answer. `grammar` is what its next token is held to; None: nothing. `shown`: as in `Sampling`.

    `candidates` are the sampler's own; every method here overwrites them.
    """

    def __init__(
        self, vocabulary: Vocabulary, candidates: Candidates, form: CallForm, shown: frozenset[str] = frozenset()
    ) -> None:
        self._vocabulary, self._candidates, self._form, self._shown = vocabulary, candidates, form, shown
        self._lookout = Lookout(form)
        self._way: CallWay | None = None
        self._begun: tuple[CallWay, str, SamplerPart] | None = None  # made, and nothing taken into it yet
        self.grammar: SamplerPart | None = None

    def misfit(self, token: int) -> SamplerPart | None:
        """What the model is held to instead, where this token would begin a call and does not fit behind its opening.

        Raises:
            InputError: llama.cpp cannot read the grammar.
        """
        opened = self._opened(self._vocabulary.token_bytes(token, self._shown))
        if opened is None or not opened[1]:
            return None
        grammar = self._grammar(*opened)
        return None if self._lets(grammar, token) else grammar

    def accept(self, token: int) -> None:
        """The answer goes on with this token.

        Raises:
            InputError: it does not fit (code "grammar_mismatch"), or llama.cpp cannot read the grammar.
        """
        if self.grammar is not None:
            self._take(self.grammar, token)
        else:
            data = self._vocabulary.token_bytes(token, self._shown)
            opened = self._opened(data)
            if opened is None:
                self._lookout.pass_over(data)
                return
            grammar = self._grammar(*opened)
            if opened[1]:
                self._take(grammar, token)
            self._way, self._begun, self.grammar = opened[0], None, grammar
        assert self._way is not None and self._vocabulary.end_id is not None
        if not self._way.is_last and self._lets(self.grammar, self._vocabulary.end_id):
            self.grammar.close()
            self._way = self.grammar = None
            self._lookout.go_on()

    def close(self) -> None:
        """Free what llama.cpp holds."""
        for grammar in (self.grammar, self._begun[2] if self._begun else None):
            if grammar is not None:
                grammar.close()
        self.grammar = self._begun = None

    def _opened(self, data: bytes) -> tuple[CallWay, str] | None:
        """The way that these bytes open, and as much of them as its grammar begins with: none where all of them belong
        to the opening."""
        opened = self._lookout.look(data) if self.grammar is None else None
        if opened is None:
            return None
        if opened.n_bytes == len(data):
            return opened.way, ""
        try:
            return opened.way, data[: opened.n_bytes].decode()
        except UnicodeDecodeError:
            return None

    def _grammar(self, way: CallWay, lead: str) -> SamplerPart:
        if self._begun is not None:
            if self._begun[:2] == (way, lead):
                return self._begun[2]
            self._begun[2].close()
            self._begun = None
        self._begun = way, lead, self._vocabulary.model.grammar(form_grammar(self._form, way, lead))
        return self._begun[2]

    def _lets(self, grammar: SamplerPart, token: int) -> bool:
        self._candidates.fill_one(token)
        grammar.apply(self._candidates)
        return self._candidates.best > -math.inf

    def _take(self, grammar: SamplerPart, token: int) -> None:
        if not self._lets(grammar, token):
            raise InputError(f"token {token} does not fit the tool call here", code="grammar_mismatch")
        grammar.accept(token)
