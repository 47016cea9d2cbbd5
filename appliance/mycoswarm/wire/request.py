"""What a head is asked to do: a prompt and how to sample from it, or texts to embed. Checked at the edge; limits stand
here."""

from typing import Any, Self

import msgspec

MAX_TOP_LOGPROBS = 20  # as OpenAI's API
MAX_INPUTS = 2048  # texts of one embedding request, as OpenAI's API


class CallTool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool that may be called. `schema`: the JSON schema of its arguments."""

    name: str
    schema: dict[str, Any]


class CallWay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How calls are written, in a model's own form (wire/dialect.py): the texts of `first`; 1 to `most` calls with
    those of `between` between two; and those of `last`. White space may stand between all texts.

    A call is the texts of `before` (NAME stands for the tool's name), its arguments, and those of `after`. Arguments
    are one JSON object; or, with `member`, each stands before the last of these texts and behind the others (KEY stands
    for its name): strings as they are, all else as JSON.

    All of this stands directly behind the text `opening`, with `is_start` only where an answer begins; where it is
    empty, the answer is calls from its first token on. `is_last`: nothing may follow the calls.
    """

    opening: str = ""
    is_start: bool = False
    is_last: bool = False
    first: tuple[str, ...] = ()
    before: tuple[str, ...]
    member: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    between: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    most: int = 1


class CallForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decoding is held to: of one way without an opening, the whole answer; else what follows an opening, wherever
    the model writes one, and no other text."""

    tools: tuple[CallTool, ...]
    ways: tuple[CallWay, ...]

    @property
    def is_free(self) -> bool:
        """Whether the model may also answer in text."""
        return all(way.opening for way in self.ways)


class Sampling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tokens are chosen. `temperature` 0 is greedy; `seed` None draws one and reports it.

    `stop` strings end the answer and are not part of it. `logit_bias` maps token ids to biases. `top_logprobs`: None
    is no log-probabilities, 0 those of the chosen tokens only. `json_schema` constrains by grammar; an empty object
    stands for any JSON; `call_form` does so for tool calls. `max_tokens` None is up to the context's end. `shown` are
    texts of control tokens that come out as text, which others do not.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: dict[int, float] = {}
    top_logprobs: int | None = None
    json_schema: dict[str, Any] | None = None
    call_form: CallForm | None = None
    shown: tuple[str, ...] = ()
    max_tokens: int | None = None

    def calling(self, form: CallForm | None, shown: tuple[str, ...]) -> Self:
        """The same, where tools may be called."""
        return msgspec.structs.replace(self, call_form=form, shown=shown)


class Prompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `messages` (rendered by the model's chat template, with `tools`) or plain `text`.

    Messages and tools are OpenAI's JSON objects as the templates expect them: role, content, tool_calls ...
    """

    messages: tuple[dict[str, Any], ...] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    text: str | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One answer to produce. `continued` are tokens of an answer begun elsewhere, which is carried on after them."""

    request_id: str
    prompt: Prompt
    sampling: Sampling
    continued: tuple[int, ...] = ()


class Embedding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Texts to embed, at most `MAX_INPUTS`. `dimensions`: how wide the vectors are to be; a model has one width."""

    request_id: str
    inputs: tuple[str, ...]
    dimensions: int | None = None


Work = Generation | Embedding
