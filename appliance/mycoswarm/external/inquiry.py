"""What an endpoint is asked, in OpenAI's words: made from our own request, never the client's body passed through."""

from typing import Any

import msgspec

from mycoswarm.base.errors import InputError
from mycoswarm.wire.request import Prompt, Sampling
from mycoswarm.wire.tool import AS_IT_LIKES, ToolChoice

_USUAL = Sampling()
# Not OpenAI's, and an unknown field is an error there: named (as llama.cpp does) only where they change the answer.
_MORE = ("top_k", "min_p", "repeat_penalty", "frequency_penalty", "presence_penalty")


def inquiry(model: str, prompt: Prompt, sampling: Sampling, choice: ToolChoice = AS_IT_LIKES) -> bytes:
    """Write the JSON body of a chat completion, or of a text completion where the prompt is a text.

    `temperature` and `top_p` are always named: servers have defaults of their own, some by model.

    Raises:
        InputError: the prompt is neither messages nor text, or cannot be written as JSON.
    """
    s = sampling
    body: dict[str, Any] = {"model": model}
    if prompt.messages is not None:
        body["messages"] = prompt.messages
        if prompt.tools:
            body |= _calling(prompt, choice)
    elif prompt.text is not None:
        body["prompt"] = prompt.text
    else:
        raise InputError("the request has neither messages nor a text")
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= {"temperature": s.temperature, "top_p": s.top_p}
    body |= {name: getattr(s, name) for name in _MORE if getattr(s, name) != getattr(_USUAL, name)}
    if s.max_tokens is not None:
        body["max_tokens"] = s.max_tokens
    if s.seed is not None:
        body["seed"] = s.seed
    if s.stop:
        body["stop"] = s.stop
    if s.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in s.logit_bias.items()}
    if s.top_logprobs is not None:
        is_chat = prompt.messages is not None
        body |= {"logprobs": True, "top_logprobs": s.top_logprobs} if is_chat else {"logprobs": s.top_logprobs}
    if s.json_schema is not None:
        body["response_format"] = _format(s.json_schema)
    try:
        return msgspec.json.encode(body)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as exc:
        raise InputError("the request cannot be written as JSON") from exc


def _calling(prompt: Prompt, choice: ToolChoice) -> dict[str, Any]:
    """The tools; how to choose among them only where it is not as servers do by themselves."""
    body: dict[str, Any] = {"tools": prompt.tools}
    if choice.name is not None:
        body["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice.mode == "required":
        body["tool_choice"] = "required"
    if not choice.is_parallel:
        body["parallel_tool_calls"] = False
    return body


def _format(schema: dict[str, Any]) -> dict[str, Any]:
    if not schema:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
