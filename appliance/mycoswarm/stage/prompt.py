"""A request's prompt as token ids, so that what people and tools wrote can forge no turn.

The template's own texts are tokenised with special tokens ("<|im_end|>" is one token); what stands in messages and
tools must not be, though templates trim, split and rewrite it on the way. So every string that comes from outside is
marked before rendering, with a character that occurs nowhere in the request, the template or the vocabulary:

 - in front of each character that could begin a guarded text, and
 - in front of a string that could be the middle or end of one which the template began ('<' ~ name ~ '>').

In the rendered text the marks are taken out again and their places kept. A guarded text over or right behind whose
first character a mark stood holds at least one character from outside: it is forged, and the text is cut inside it.
The parts are tokenised one by one, so no token comes out that spans a cut. Why that is enough: a guarded text in the
output that holds a character from outside either begins with one, which has its mark (first kind), or the template
began it and the string that goes on with it has its mark (second kind). Where nothing is forged there is no cut, and
the ids are those of the rendered text itself.

Guarded are the texts of all control tokens, and those of user-defined tokens that are markup ("<tool_call>"), not
words: white space, and plain HTML tags that the template does not use ("<h1>" in Gemma's vocabulary), stay tokens.

Roles are a fixed list, and words that the template compares with ('function') stay unmarked, or it would not know
them. In assistants' messages so do user-defined tokens that the template looks for by name: it takes a model's thoughts
away at "</think>". They can be written there by whoever writes the assistant's part; turns cannot.
Not covered: a template that cuts the front off a string and itself writes the beginning of a guarded text there.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Protocol

from mycoswarm.base.errors import InputError, ModelError, UnsupportedError
from mycoswarm.stage.template import ChatTemplate
from mycoswarm.wire.request import Prompt

MAX_TOKEN_CHARACTERS = 256  # one token's; the longest in use are 128 spaces
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MARKS = [chr(code) for code in range(0x10600, 0x10737)]  # Linear A: printable, so `repr` keeps them; nobody writes it
_SPOKEN = ("content", "reasoning_content")  # the parts of an assistant's message that the model wrote
_TAG = re.compile(r"</?[a-z][a-z0-9]{0,9}>")
_ASKS_FOR_NONE = re.compile(r"message(\['content'\]|\.content) is none\s*-?%\}")
_TAKES_OBJECTS = re.compile(
    r"arguments\b[^}%]*(tojson|items|is mapping|is string)|set (\w+) = \w+\.arguments\b[\s\S]{0,200}?\b\2\.items"
)


class Words(Protocol):
    """What tokenising needs of a vocabulary; stage/vocabulary.py is the real one."""

    adds_bos: bool
    bos_id: int | None
    template: str | None

    @property
    def control_texts(self) -> frozenset[str]:
        """Texts of control and unknown tokens."""

    @property
    def user_defined_texts(self) -> frozenset[str]:
        """Texts of user-defined tokens."""

    @property
    def bos(self) -> str:
        """Text of the token that begins a text."""

    @property
    def eos(self) -> str:
        """Text of the token that ends a text."""

    def tokenize(self, text: str, special: bool) -> list[int]:
        """Token ids; with `special`, texts of control tokens are those tokens."""


class PromptReader:
    """Turns prompts into token ids for one model. Blocking; safe in one thread beside the one that decodes."""

    def __init__(
        self, words: Words, *, most_tokens: int | None = None, now: Callable[[], datetime] = datetime.now
    ) -> None:
        """`most_tokens`: the context. What is surely longer is refused unread: to read megabytes takes half a minute,
        in which no other prompt is read."""
        self._words, self._most_tokens, self._now = words, most_tokens, now
        self._chat: tuple[ChatTemplate, Guard] | None = None

    def read(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, with the model's "bos" in front where it wants one.

        Plain text is tokenised without control tokens.

        Raises:
            InputError: messages that cannot be, or are far too long; or the template refuses them.
            UnsupportedError: content that is not text.
            ModelError: no template (code "no_chat_template"), or a bad one.
        """
        try:
            return self._read(prompt)
        except RecursionError as exc:
            raise InputError("the messages are nested too deeply", hint="Send flatter JSON.") from exc

    def _read(self, prompt: Prompt) -> list[int]:
        count = _characters(prompt.text or prompt.messages)
        if self._most_tokens is not None and count > self._most_tokens * MAX_TOKEN_CHARACTERS:
            raise InputError(
                f"the prompt has {count} characters and the context holds {self._most_tokens} tokens",
                code="context_length_exceeded",
                hint="Shorten the prompt.",
            )
        if prompt.messages is None:
            tokens = self._words.tokenize(prompt.text or "", False)
        else:
            tokens = self._read_messages(prompt.messages, prompt.tools)
        bos = self._words.bos_id
        if self._words.adds_bos and bos is not None and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def _read_messages(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        template, guard = self._compiled()
        takes_objects = _TAKES_OBJECTS.search(template.source) is not None
        plain = [_plain_message(message, takes_objects, template.source) for message in messages]
        mark = _free_mark(json.dumps([plain, tools], ensure_ascii=False) + template.source)
        shield = Shield(guard, mark, template.words)
        lenient = Shield(guard, mark, template.words, spared=guard.markup & template.words)
        covered = [shield.cover_message(each) for each in plain]
        for message in covered:
            if message["role"] == "assistant":
                message |= {key: lenient.cover(message[key]) for key in _SPOKEN if key in message}
        rendered = template.render(covered, [shield.cover(tool) for tool in tools])
        return [token for text, special in shield.parts(rendered) for token in self._words.tokenize(text, special)]

    def _compiled(self) -> tuple[ChatTemplate, "Guard"]:
        if self._chat is None:
            words = self._words
            if not words.template:
                raise ModelError(
                    "this model has no chat template",
                    code="no_chat_template",
                    hint="Send plain text to /v1/completions, or take a model that is made for chat.",
                )
            template = ChatTemplate(words.template, bos=words.bos, eos=words.eos, now=self._now)
            markup = frozenset(text for text in words.user_defined_texts if _is_markup(text, words.template))
            self._chat = template, Guard(words.control_texts, markup)
        return self._chat


class Guard:
    """The guarded texts of one model, ready to be looked for."""

    def __init__(self, control: frozenset[str], markup: frozenset[str]) -> None:
        texts = {text for text in control | markup if text.strip()}
        texts |= {text.replace("▁", " ") for text in texts if "▁" in text}  # SentencePiece's space
        self.texts = frozenset(texts)
        self.control, self.markup = control, markup
        self.lengths = sorted({len(text) for text in texts}, reverse=True)
        self.longest = max(self.lengths, default=0)
        self.beginning = _one_of({text.lstrip()[0] for text in texts})
        self.start = re.compile(_one_of({text[0] for text in texts}))
        self.inner = "\0".join(text[1:] for text in texts)
        self.ends = frozenset(text[at:] for text in texts for at in range(1, len(text)))

    def can_go_on(self, text: str) -> bool:
        """Whether a text could be the middle, or begin with the end, of a guarded one."""
        if len(text) < self.longest and text in self.inner:
            return True
        return any(text[:length] in self.ends for length in range(1, self.longest))


class Shield:
    """Marks what comes from outside, for one rendering, and finds what was forged with it.

    `known` words stay unmarked where they are a whole string, `spared` guarded texts wherever they stand.
    """

    def __init__(self, guard: Guard, mark: str, known: frozenset[str], *, spared: frozenset[str] = frozenset()) -> None:
        self._guard, self._mark, self._known = guard, mark, known
        pattern = "|".join([*(f"({re.escape(text)})" for text in sorted(spared, reverse=True)), guard.beginning])
        self._to_mark = re.compile(pattern)

    def cover_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Mark all strings of a message but its role."""
        return {"role": message["role"]} | {
            self.cover(key): self.cover(value) for key, value in message.items() if key != "role"
        }

    def cover(self, value: Any) -> Any:
        """Mark all strings of a JSON value, keys too."""
        if isinstance(value, str):
            return self._cover_text(value)
        if isinstance(value, Mapping):
            return {self.cover(key): self.cover(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.cover(part) for part in value]
        return value

    def parts(self, rendered: str) -> list[tuple[str, bool]]:
        """The rendered text without marks, in parts to be tokenised one by one: (text, with special tokens)."""
        pieces = rendered.split(self._mark)
        text = "".join(pieces)
        places, at = [], 0
        for piece in pieces[:-1]:
            at += len(piece)
            places.append(at)
        cuts, plain = self._cuts(text, places)
        borders = sorted({0, len(text), *cuts})
        return [(text[first:last], first not in plain) for first, last in pairwise(borders)]

    def _cover_text(self, text: str) -> str:
        if text in self._known and text not in self._guard.texts:
            return text
        covered = self._to_mark.sub(lambda found: found[0] if found.lastindex else self._mark + found[0], text)
        bare = text.lstrip()
        blank = len(text) - len(bare)  # the mark goes behind the blanks, so that the template can still trim them
        if bare and self._guard.can_go_on(bare) and not covered.startswith(self._mark, blank):
            covered = covered[:blank] + self._mark + covered[blank:]
        return covered

    def _cuts(self, text: str, places: Sequence[int]) -> tuple[set[int], set[int]]:
        """Where to cut, and where single characters are that must be tokenised without special tokens.

        A forged text is cut before its first character from outside, or behind it where it begins with it: that
        border never lies inside a text that is the template's alone.
        """
        cuts: set[int] = set()
        plain: set[int] = set()
        guard = self._guard
        for found in guard.start.finditer(text) if places else ():
            first = found.start()
            index = bisect_left(places, first)
            if index == len(places):
                break
            place = places[index]
            if place - first >= guard.longest:
                continue
            length = next((n for n in guard.lengths if text[first : first + n] in guard.texts), 0)
            if place < first + length:
                cuts.add(max(place, first + 1))
            if place == first and text[first] in guard.control:
                cuts |= {first, first + 1}
                plain.add(first)
        return cuts, plain


def _characters(value: Any) -> int:
    """How many characters stand in the texts of a JSON value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_characters(part) for part in value.values())
    return sum(_characters(part) for part in value) if isinstance(value, list | tuple) else 0


def _one_of(characters: set[str]) -> str:
    return f"[{''.join(re.escape(character) for character in sorted(characters))}]" if characters else "(?!)"


def _is_markup(text: str, template: str) -> bool:
    if not text.replace("▁", " ").strip() or len(text) == 1:
        return False
    opening = text.replace("</", "<")
    return not _TAG.fullmatch(text) or opening in template or opening.replace("<", "</") in template


def _free_mark(everything: str) -> str:
    for mark in _MARKS:
        if mark not in everything:
            return mark
    raise InputError("the messages use every sign of the Linear A script", hint="Leave some of them out.")


def _plain_message(message: Mapping[str, Any], takes_objects: bool, template: str) -> dict[str, Any]:
    """A message as templates expect it: a known role, content as one text, calls' arguments as the template has them.

    Templates written for transformers get arguments as objects; the few that add them to texts want JSON texts.
    """
    role = message.get("role")
    if role not in ROLES:
        raise InputError(f"a message has the role {str(role)[:40]!r}", hint=f"Use one of {', '.join(ROLES)}.")
    plain = dict(message)
    if role == "developer" and "developer" not in template:
        plain["role"] = "system"  # OpenAI's newer name for it
    plain["content"] = _plain_content(message.get("content"))
    calls = message.get("tool_calls")
    if calls and not plain["content"] and _ASKS_FOR_NONE.search(template):
        plain["content"] = None  # such templates, DeepSeek's among them, leave calls out beside a content that is empty
    if calls and takes_objects:
        plain["tool_calls"] = [_with_objects(call) for call in calls]
    return plain


def _plain_content(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list | tuple) and all(
        isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
        for part in content
    ):
        return "".join(part["text"] for part in content)
    raise UnsupportedError("a message has content that is not text", hint="Send text only.")


def _with_objects(call: Any) -> Any:
    if not isinstance(call, Mapping):
        raise InputError("a tool call is not an object")
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call  # what the model wrote is no JSON: shown as it is
    return {**call, "function": {**function, "arguments": arguments}}
