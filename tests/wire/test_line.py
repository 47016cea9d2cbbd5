"""JSON lines: cut right whatever the chunks, bounded, and strict about what they say."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import ProtocolError
from mycoswarm.wire.line import MAX_LINE_BYTES, LineSplitter, decode_order, decode_report, encode_line
from mycoswarm.wire.order import AnyOrder, Cancel, Generate, Ping
from mycoswarm.wire.report import (
    MAX_TIMED_STAGES,
    AnyReport,
    Failed,
    Finished,
    Nonce,
    Piece,
    Pong,
    StageTiming,
    Timing,
)
from mycoswarm.wire.request import Generation, Prompt, Sampling

ORDERS: list[AnyOrder] = [
    Ping(),
    Cancel(request_id="a\nb"),
    Generate(
        generation=Generation(
            request_id="a",
            prompt=Prompt(messages=({"role": "user", "content": "hé \n\u2028"},)),
            sampling=Sampling(stop=("\n",), logit_bias={3: -1.5}, json_schema={"type": "object"}),
            continued=(1, 2),
        )
    ),
]
REPORTS: list[AnyReport] = [
    Pong(),
    Nonce(nonce="n"),
    Piece(request_id="a", text="two\nlines", token_ids=(1, 2)),
    Failed(request_id=None, code="stage_failed", message="m", hint="h", last_words=("a", "b")),
]

lines = st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\n", b" ")), max_size=8)


@settings(deadline=None)  # other work on the machine comes in bursts
@given(lines, st.binary(max_size=10).map(lambda data: data.replace(b"\n", b"")), st.lists(st.integers(0, 400)))
def test_lines_are_cut_right_whatever_the_chunks(whole: list[bytes], rest: bytes, places: list[int]) -> None:
    data = b"".join(line + b"\n" for line in whole) + rest
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    splitter = LineSplitter()
    got: list[bytes] = []
    for first, last in itertools.pairwise(ends):
        got += splitter.feed(data[first:last])
    assert got == whole
    assert splitter.feed(b"\n") == [rest]


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_one_line_and_is_read_back(order: AnyOrder) -> None:
    line = encode_line(order)
    assert line.count(b"\n") == 1
    (got,) = LineSplitter().feed(line)
    assert decode_order(got) == order


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_one_line_and_is_read_back(report: AnyReport) -> None:
    line = encode_line(report)
    assert line.count(b"\n") == 1
    (got,) = LineSplitter().feed(line)
    assert decode_report(got) == report


def test_a_line_without_end_is_refused_when_it_grows_too_long() -> None:
    splitter = LineSplitter()
    chunk = bytes(MAX_LINE_BYTES // 4)
    for _ in range(4):
        assert splitter.feed(chunk) == []
    with pytest.raises(ProtocolError):
        splitter.feed(b"x")


def test_a_line_that_is_too_long_is_refused_though_it_ends() -> None:
    with pytest.raises(ProtocolError):
        LineSplitter().feed(bytes(MAX_LINE_BYTES + 1) + b"\n")


def test_a_message_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ProtocolError) as caught:
        encode_line(Cancel(request_id="x" * MAX_LINE_BYTES))
    assert caught.value.side == "local"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"order":"unknown"}',
        b'{"order":"cancel"}',
        b'{"order":"cancel","request_id":7}',
        b'{"order":"ping","more":1}',
        b'{"report":"pong"}',
        b'\xff{"order":"ping"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_order_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_order(line)


@settings(deadline=None)  # other work on the machine comes in bursts
@given(st.binary(max_size=200))
def test_rubbish_is_a_protocol_error(line: bytes) -> None:
    for decode in (decode_order, decode_report):
        try:
            decode(line)
        except ProtocolError:
            continue
        assert json.loads(line)


@settings(deadline=None)  # other work on the machine comes in bursts
@given(st.sampled_from([encode_line(message) for message in (*ORDERS, *REPORTS)]), st.integers(0), st.integers(0, 255))
def test_a_damaged_line_is_a_message_or_a_protocol_error(line: bytes, place: int, value: int) -> None:
    damaged = bytearray(line[:-1])
    damaged[place % len(damaged)] = value
    for decode in (decode_order, decode_report):
        try:
            decode(bytes(damaged))
        except ProtocolError:
            continue


def _finished(stages: int, **timing: float) -> bytes:
    told = {"prefill_s": 1.0, "decode_s": 1.0, "step_s": 1.0, "compute_s": 1.0, "queued_s": 0.0} | timing
    told_stages = (StageTiming(compute_median_s=0.1),) * stages
    whole = Timing(steps=1, hops=2, stages=told_stages, **told)
    return encode_line(Finished(request_id="a", reason="stop", prompt_tokens=1, completion_tokens=1, timing=whole))


def test_a_head_tells_of_no_more_stages_than_there_can_be() -> None:
    assert decode_report(_finished(MAX_TIMED_STAGES))
    with pytest.raises(ProtocolError):
        decode_report(_finished(MAX_TIMED_STAGES + 1))


@pytest.mark.parametrize("name", ["prefill_s", "decode_s", "step_s", "compute_s", "queued_s", "hop_overhead_median_s"])
@pytest.mark.parametrize("value", [-0.5, 1e9, 1e300])
def test_times_that_no_answer_takes_are_a_protocol_error(name: str, value: float) -> None:
    assert decode_report(_finished(1, **{name: 0.5}))
    with pytest.raises(ProtocolError):
        decode_report(_finished(1, **{name: value}))
