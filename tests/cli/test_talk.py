"""An answer out of its stream of events."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.socketed import Canned, answering
from mycoswarm.api.refusal import error_body
from mycoswarm.base.errors import ApiKeyError, ProtocolError, RingError, SwarmError
from mycoswarm.cli.entry import main
from mycoswarm.cli.talk import Reply, stream_chat, where

STAGES = [{"node": "attic", "layers": [0, 3]}, {"node": "pi", "layers": [3, 6]}]
RAN = {"stages": STAGES, "rule": "all", "ran": "LAN", "receipt": "17a9", "timing": {"steps": 20, "step_s": 2.0}}


def event(text: str | None = None, **more: object) -> str:
    """One event: a piece of text, and whatever else."""
    choices = [] if text is None else [{"index": 0, "delta": {"content": text}, **more}]
    return "data: " + json.dumps({"choices": choices, **({} if choices else more)})


def sse(events: Iterable[str]) -> Canned:
    """The events as the daemon sends them, with a comment before each."""
    return Canned(body="".join(f": wait\n\n{one}\n\n" for one in events).encode())


WHOLE = (
    event("Hel"),
    event("lo", logprobs={"content": [{"token": "lo", "logprob": -0.5}]}),
    event("", finish_reason="stop"),
    event(usage={"completion_tokens": 2}, mycoswarm=RAN),
    "data: [DONE]",
)


def test_a_whole_answer_is_text_and_where_it_ran(tmp_path: Path) -> None:
    reply, canned = Reply(), sse(WHOLE)
    with answering(tmp_path, canned) as call:
        assert list(stream_chat(call, {"model": "m"}, reply, "solo")) == ["Hel", "lo"]
    assert (reply.text, reply.finish_reason, reply.usage) == ("Hello", "stop", {"completion_tokens": 2})
    assert reply.logprobs == [{"token": "lo", "logprob": -0.5}]
    assert where(reply) == "ran on attic[0,3) + pi[3,6) (LAN), 10.0 tokens/s; rule: all; receipt: 17a9"
    assert canned.asked[0][3]["x-mycoswarm-route"] == "solo"
    assert json.loads(canned.asked[0][2])["stream"] is True


def test_plain_completions_stream_too(tmp_path: Path) -> None:
    canned = sse(['data: {"choices": [{"index": 0, "text": "Hi"}]}', "data: [DONE]"])
    with answering(tmp_path, canned) as call:
        assert list(stream_chat(call, {}, Reply(), path="/v1/completions")) == ["Hi"]


def test_an_answer_that_ends_without_its_end_is_an_error_and_its_beginning_stays(tmp_path: Path) -> None:
    reply = Reply()
    with answering(tmp_path, sse(WHOLE[:2])) as call, pytest.raises(RingError, match="broke off"):
        list(stream_chat(call, {}, reply))
    assert reply.text == "Hello"


def test_an_error_in_mid_stream_is_raised_after_the_text_before_it(tmp_path: Path) -> None:
    sent = RingError("node attic is lost", code="node_lost")
    reply = Reply()
    canned = sse([event("Hel"), "data: " + json.dumps(error_body(sent)), event("lo"), "data: [DONE]"])
    with answering(tmp_path, canned) as call, pytest.raises(SwarmError, match="attic is lost") as caught:
        list(stream_chat(call, {}, reply))
    assert (reply.text, caught.value.code) == ("Hel", "node_lost")


def test_a_refusal_before_the_stream_keeps_its_kind(tmp_path: Path) -> None:
    body = json.dumps(error_body(ApiKeyError("the request has no API key"))).encode()
    with answering(tmp_path, Canned(status=401, body=body)) as call, pytest.raises(ApiKeyError):
        list(stream_chat(call, {}, Reply()))


def test_an_event_that_is_no_json_is_an_error_in_words(tmp_path: Path) -> None:
    with answering(tmp_path, sse(["data: {half"])) as call, pytest.raises(ProtocolError):
        list(stream_chat(call, {}, Reply()))


def test_where_says_unknown_rather_than_guessing() -> None:
    assert where(Reply()) == "ran on unknown; rule: unknown"


def test_an_answer_of_an_endpoint_names_it() -> None:
    told = {"stages": [], "nodes": ["vllm"], "ran": "outside", "rule": "long ones", "receipt": "17a9"}
    assert where(Reply(mycoswarm=told)) == "ran on vllm (outside); rule: long ones; receipt: 17a9"


def test_labels_go_with_the_request_and_with_the_question_where_it_would_run(tmp_path: Path) -> None:
    canned, words = sse(WHOLE), ["--data", str(tmp_path), "ask", "Hi", "--label", "private,work", "--label", "kids"]
    refused = {"allowed": False, "rule": None, "reason": "no rule matches"}
    canned.bodies["/api/explain"] = json.dumps(refused).encode()
    with answering(tmp_path, canned):
        done = CliRunner().invoke(main, words)
        explained = CliRunner().invoke(main, [*words, "--explain"])
    assert (done.exit_code, explained.exit_code) == (0, 0), explained.output
    sent = [headers.get("x-mycoswarm-labels") for _, _, _, headers in canned.asked]
    assert sent == ["private, work, kids", None]
    assert json.loads(canned.asked[1][2])["labels"] == ["private", "work", "kids"]


def test_what_was_said_in_a_chat_keeps_its_labels_until_it_begins_anew(tmp_path: Path) -> None:
    typed = "one\n/label kids\ntwo\n/label\nthree\n/new\nfour\n"
    with answering(tmp_path, canned := sse(WHOLE)):
        done = CliRunner().invoke(main, ["--data", str(tmp_path), "chat", "--label", "work"], input=typed)
    sent = [headers.get("x-mycoswarm-labels") for _, _, _, headers in canned.asked]
    assert sent == ["work", "kids, work", "kids, work", None], done.output
    assert "keeps its labels" in done.output


def test_what_a_private_agent_said_goes_to_nobody_else_without_its_label(tmp_path: Path) -> None:
    canned = sse(WHOLE)
    agent = {"name": "scout", "fault": None, "description": "private"}
    canned.bodies["/api/agents"] = json.dumps({"agents": [agent]}).encode()
    end = {"event": "end", "end": "answer", "answer": "a secret", "steps": 1, "completion_tokens": 2}
    events = [{"event": "run", "id": "r"}, {"event": "text", "text": "a secret"}, {**end, "labels": ["private"]}]
    run = "/api/agents/scout/run"
    canned.bodies[run] = b"".join(json.dumps(one).encode() + b"\n" for one in events)
    with answering(tmp_path, canned):
        words = ["--data", str(tmp_path), "chat", "--agent", "scout"]
        done = CliRunner().invoke(main, words, input="tell me\n/agent\nsay it again\n")
    asked = [(path, body, headers) for _, path, body, headers in canned.asked]
    assert [path for path, _, _ in asked] == ["/api/agents", run, "/v1/chat/completions"], done.output
    assert b"a secret" in asked[2][1] and asked[2][2].get("x-mycoswarm-labels") == "private"


def test_ask_prints_the_answer_and_says_beside_it_where_it_ran(tmp_path: Path) -> None:
    with answering(tmp_path, sse(WHOLE)):
        done = CliRunner().invoke(main, ["--data", str(tmp_path), "ask", "Say", "hello", "--seed", "7"])
    assert done.exit_code == 0, done.output


def test_a_chat_goes_on_after_an_error_and_forgets_the_turn_that_failed(tmp_path: Path) -> None:
    canned = sse(WHOLE[:2])

    with answering(tmp_path, canned):
        done = CliRunner().invoke(main, ["--data", str(tmp_path), "chat"], input="one\n/new\ntwo\n\n/nonsense\n/quit\n")
    assert done.exit_code == 0, done.output
    asked = [json.loads(body)["messages"] for _, _, body, _ in canned.asked]
    assert asked == [[{"role": "user", "content": "one"}], [{"role": "user", "content": "two"}]]


def test_a_chat_remembers_what_was_said(tmp_path: Path) -> None:
    canned = sse(WHOLE)
    with answering(tmp_path, canned):
        words = ["--data", str(tmp_path), "chat", "--system", "Be short."]
        CliRunner().invoke(main, words, input="one\n/model other\n/route solo\ntwo\n")
    first, second = (json.loads(body) for _, _, body, _ in canned.asked)
    assert [m["content"] for m in second["messages"]] == ["Be short.", "one", "Hello", "two"]
    assert (first["model"], second["model"]) == ("spore", "other")
    assert "x-mycoswarm-route" not in canned.asked[0][3] and canned.asked[1][3]["x-mycoswarm-route"] == "solo"
