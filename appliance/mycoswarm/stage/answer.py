"""From sampled tokens to certain text: whole characters and stop strings. Pure: no clock, no model.

A token's bytes may end within a character, and a text may end within what becomes a stop string. Both are held back
until they are certain, so no text is ever taken back. The answer ends at the first character that completes a stop
string, wherever the borders between tokens are; the text before that stop string is the answer's, the stop string is
not. The held-back state is a function of the tokens alone: fed the same tokens, another head holds the same text back,
which is how an answer goes on elsewhere with nothing lost or repeated.
"""

import codecs
from collections.abc import Callable, Sequence

from mycoswarm.wire.report import Piece, TokenLogprob


class Answer:
    """One answer as it grows. `token_bytes` gives what a token stands for, `is_end` whether it ends an answer.

    `max_tokens` counts all tokens of the answer, those continued from elsewhere and the end token among them.
    `reason` is None until the answer is whole, then "stop" or "length".
    """

    def __init__(
        self,
        request_id: str,
        *,
        stop: Sequence[str],
        max_tokens: int | None,
        token_bytes: Callable[[int], bytes],
        is_end: Callable[[int], bool],
    ) -> None:
        self._request_id = request_id
        self._stop = tuple(text for text in stop if text)
        self._max_tokens = max_tokens
        self._token_bytes = token_bytes
        self._is_end = is_end
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self.n_tokens = 0
        self.reason: str | None = None
        if max_tokens is not None and max_tokens <= 0:
            self.reason = "length"

    def carry_on(self, tokens: Sequence[int]) -> None:
        """Take the tokens of an answer begun elsewhere; their certain text has been sent there."""
        for token in tokens:
            if self.reason is None:
                self.push(token)

    def push(self, token: int, logprob: TokenLogprob | None = None) -> Piece:
        """Take the next token; give back what is certain now. The end token has no text and no log-probability."""
        self.n_tokens += 1
        if self._is_end(token):
            return Piece(request_id=self._request_id, text=self._finish("stop"), token_ids=(token,))
        text = self._take(self._decoder.decode(self._token_bytes(token)))
        if self.reason is None and self._max_tokens is not None and self.n_tokens >= self._max_tokens:
            text += self._finish("length")
        logprobs = None if logprob is None else (logprob,)
        return Piece(request_id=self._request_id, text=text, token_ids=(token,), logprobs=logprobs)

    def end(self, reason: str) -> Piece | None:
        """End it from outside; what was held back is text now. None where nothing was held back, or it had ended."""
        text = self._finish(reason) if self.reason is None else ""
        return Piece(request_id=self._request_id, text=text, token_ids=()) if text else None

    def _take(self, new: str) -> str:
        start = len(self._held)
        self._held += new
        found = self._first_stop(start)
        if found is not None:
            text, self._held = self._held[:found], ""
            self.reason = "stop"
            return text
        keep = self._possible_stop()
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text

    def _first_stop(self, start: int) -> int | None:
        """Where the stop string begins that is complete first; of those that end together, the longest."""
        for end in range(start + 1, len(self._held) + 1):
            lengths = [len(stop) for stop in self._stop if self._held.endswith(stop, 0, end)]
            if lengths:
                return end - max(lengths)
        return None

    def _possible_stop(self) -> int:
        """Length of the longest end of the held text that begins a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            tail = self._held[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return 0

    def _finish(self, reason: str) -> str:
        """Half a character becomes U+FFFD, as everywhere where bytes are not text."""
        text = self._take(self._decoder.decode(b"", True)) if self.reason is None else ""
        if self.reason is None:
            text, self._held = text + self._held, ""
            self.reason = reason
        return text
