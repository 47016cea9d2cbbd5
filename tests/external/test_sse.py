"""Server-sent events: cut anywhere, ended in any way, never more memory than allowed."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import EndpointError
from mycoswarm.external.sse import EventParser

LINES = st.sampled_from(
    [b"data: one", b"data:two", b"data:  three", b"data", b"data:", b": comment", b"event: x", b"id", b"", b"datax: 1"]
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = st.lists(st.tuples(LINES, ENDS)).map(lambda lines: b"".join(line + end for line, end in lines))


def events_of(stream: bytes) -> list[bytes]:
    """What the standard says of a whole stream, read in the slowest and plainest way."""
    events: list[bytes] = []
    data: list[bytes] = []
    for line in re.split(rb"\r\n|\r|\n", stream)[:-1]:
        if not line and data:
            events.append(b"\n".join(data))
        if not line:
            data = []
        elif line.split(b":")[0] == b"data":
            data.append(line[5:].removeprefix(b" "))
    return events


@given(STREAMS, st.lists(st.integers(0, 200)))
def test_where_a_stream_is_cut_changes_nothing(stream: bytes, cuts: list[int]) -> None:
    parser, found = EventParser(1000), []
    borders = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for first, last in itertools.pairwise(borders):
        found += parser.feed(stream[first:last])
    assert found == events_of(stream)


@given(st.binary(), st.integers(1, 9))
def test_any_bytes_are_taken_whole_or_in_pieces_alike(stream: bytes, step: int) -> None:
    whole, parts = EventParser(1000), EventParser(1000)
    expected = whole.feed(stream) + whole.end()
    found = [event for at in range(0, len(stream), step) for event in parts.feed(stream[at : at + step])]
    assert found + parts.end() == expected


def test_a_byte_order_mark_counts_at_the_very_beginning_only() -> None:
    assert EventParser(99).feed(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n") == [b"a"]


def test_an_event_without_its_last_line_end_counts_at_an_orderly_end() -> None:
    parser = EventParser(99)
    assert parser.feed(b"data: a\n\ndata: [DONE]") == [b"a"] and parser.end() == [b"[DONE]"]


@pytest.mark.parametrize("piece", [b"x" * 10, b"data: 1\n", b"data:\n", b"data\r"])
def test_an_endless_line_or_event_is_refused_when_it_passes_the_limit(piece: bytes) -> None:
    parser, taken_bytes = EventParser(1000), 0
    with pytest.raises(EndpointError) as caught:
        while True:
            assert not parser.feed(piece)
            taken_bytes += len(piece)
            assert taken_bytes <= 6000
    assert caught.value.code == "endpoint_too_much"


def test_comments_may_be_endless() -> None:
    parser = EventParser(1000)
    for _ in range(1000):
        assert not parser.feed(b": still working\n\n")
