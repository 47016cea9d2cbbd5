"""A model's words: text to token ids, token ids to bytes, what ends an answer. On the head only."""

from functools import cached_property

from mycoswarm.base.errors import InputError
from mycoswarm.stage.llama import Model

_UNKNOWN, _CONTROL, _USER_DEFINED = 1 << 0, 1 << 3, 1 << 4  # llama.h: enum llama_token_attr


class Vocabulary:
    """The tokenizer inside a GGUF file, and what its metadata says about it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.n_vocab = model.n_vocab
        self.adds_bos = model.adds_bos
        self.bos_id, self.eos_id = model.marker("bos"), model.marker("eos")
        self.template = model.template

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids of `text`, no "bos" added. Only with `special` are the texts of control tokens taken for them, so
        what a user wrote is tokenised without and can forge no turn. (User-defined tokens are text and always match.)

        Raises:
            InputError: not text that can be encoded (lone surrogates), or too long.
        """
        return self.model.tokenize(_encoded(text), special=special)

    def frame(self, text: str) -> list[int]:
        """Token ids of `text` as a whole text, with what the model wants in front and behind; control tokens' texts are
        taken for plain text.

        Raises:
            InputError: not text that can be encoded (lone surrogates), or too long.
        """
        return self.model.tokenize(_encoded(text), special=False, framed=True)

    def token_bytes(self, token: int, shown: frozenset[str] = frozenset()) -> bytes:
        """Bytes that a token adds to the answer: none for control tokens, but those of the texts `shown` (the marks of
        tool calls); user-defined tokens are shown. They may be half a character."""
        self._check(token)
        data = self.model.piece(token, special=False)
        if not data and shown and (text := self.token_text(token)) in shown:
            return text.encode()
        return data

    def token_text(self, token: int) -> str:
        """A token's own text, control tokens too: for templates ("<s>"), not for answers."""
        self._check(token)
        return self.model.piece(token, special=True).decode("utf-8", "replace")

    @property
    def bos(self) -> str:
        """Text of the token that begins a text, empty where the model has none."""
        return "" if self.bos_id is None else self.token_text(self.bos_id)

    @property
    def eos(self) -> str:
        """Text of the token that ends a text, empty where the model has none."""
        return "" if self.eos_id is None else self.token_text(self.eos_id)

    @cached_property
    def control_texts(self) -> frozenset[str]:
        """Texts of control and unknown tokens: what text that is tokenised with `special` must not hold by chance."""
        return self._texts(_UNKNOWN | _CONTROL)

    @cached_property
    def user_defined_texts(self) -> frozenset[str]:
        """Texts of user-defined tokens, which match in any text."""
        return self._texts(_USER_DEFINED)

    @cached_property
    def end_id(self) -> int | None:
        """A token that ends an answer, None where the model has none."""
        tokens = range(self.n_vocab)
        likely = () if self.eos_id is None else (self.eos_id,)
        return next((token for token in (*likely, *tokens) if self.is_end(token)), None)

    def is_end(self, token: int) -> bool:
        """Whether this token ends an answer: end of text, of turn, of message."""
        self._check(token)
        return self.model.is_end(token)

    def _texts(self, kinds: int) -> frozenset[str]:
        tokens = (token for token in range(self.n_vocab) if self.model.attributes(token) & kinds)
        return frozenset(self.token_text(token) for token in tokens) - {""}

    def _check(self, token: int) -> None:
        if not 0 <= token < self.n_vocab:
            raise InputError(f"there is no token {token}: the model has {self.n_vocab}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise InputError("the text holds half a surrogate pair, which is no character") from exc
