"""Every token is computed once, in order, within the cache, and nobody waits for ever."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.errors import BusyError, InputError
from mycoswarm.stage.schedule import Schedule, Turn


def schedule(**more) -> Schedule:
    return Schedule(**{"n_ctx": 100, "n_ubatch": 8, "n_seq_max": 3, "window": 1} | more)


def taken(s: Schedule) -> Turn:
    turn = s.turn(0.0)
    assert turn is not None
    s.landed()
    return turn


def shown(turn: Turn) -> list[tuple[str, int, int]]:
    return [(row.request_id, row.position, row.token) for row in turn.rows]


def test_a_long_prompt_goes_in_chunks_and_only_its_last_row_is_wanted():
    s = schedule()
    s.submit("a", range(10), max_tokens=5, now=0)
    first, second = taken(s), taken(s)
    assert first.begun == ((0, "a"),) and second.begun == ()
    assert shown(first) + shown(second) == [("a", i, i) for i in range(10)]
    assert [row.is_wanted for row in first.rows + second.rows] == [False] * 9 + [True]
    assert s.turn(0) is None


def test_decoding_rows_come_before_prompts_and_prompts_in_order():
    s = schedule()
    s.submit("a", [1], max_tokens=5, now=0)
    taken(s)
    assert s.sampled("a", 7)
    s.submit("b", range(5), max_tokens=5, now=0)
    s.submit("c", range(5), max_tokens=5, now=0)
    turn = taken(s)
    assert shown(turn) == [("a", 1, 7)] + [("b", i, i) for i in range(5)] + [("c", i, i) for i in range(2)]
    assert turn.begun == ((1, "b"), (2, "c"))


def test_more_sequences_than_rows_take_turns():
    s = schedule(n_ubatch=2)
    for name in "abc":
        s.submit(name, [0], max_tokens=30, now=0)
    order = []
    while len(order) < 30:
        for row in taken(s).rows:
            order.append(row.request_id)
            assert s.sampled(row.request_id, 0)
    assert {name: order[6:].count(name) for name in "abc"} == {"a": 8, "b": 8, "c": 8}


def test_at_most_the_window_is_under_way():
    s = schedule(window=2)
    s.submit("a", range(30), max_tokens=5, now=0)
    assert s.turn(0) and s.turn(0)
    assert s.turn(0) is None
    s.landed()
    assert s.turn(0)


def test_a_request_waits_until_its_reservation_fits_and_nobody_overtakes():
    s = schedule()
    s.submit("a", range(8), max_tokens=72, now=0)
    s.submit("b", range(8), max_tokens=32, now=0)
    s.submit("c", [1], max_tokens=1, now=0)
    assert taken(s).begun == ((0, "a"),)
    assert s.turn(0) is None
    assert s.finish("a", 0) == 0
    assert taken(s).begun == ((1, "b"),)
    assert taken(s).begun == ((2, "c"),)


def test_a_request_without_a_limit_keeps_its_share_and_grows_while_there_is_room():
    s = schedule(n_ctx=12)
    s.submit("a", [0], max_tokens=None, now=0)
    s.submit("b", [0], max_tokens=3, now=0)
    taken(s)
    for _ in range(7):
        assert s.sampled("a", 1)
        taken(s)
    assert not s.sampled("a", 1)


def test_a_limited_request_ends_where_the_context_ends():
    s = schedule(n_ctx=8)
    s.submit("a", range(8), max_tokens=5, now=0)
    taken(s)
    assert not s.sampled("a", 1)


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers():
    with pytest.raises(InputError, match="101 tokens and the context holds 100") as caught:
        schedule().submit("a", range(101), max_tokens=None, now=0)
    assert caught.value.code == "context_length_exceeded"


def test_an_empty_prompt_is_refused():
    with pytest.raises(InputError):
        schedule().submit("a", [], max_tokens=None, now=0)


def test_a_full_queue_says_when_to_come_back():
    s = schedule(n_seq_max=1, max_queued=1)
    s.submit("a", [0], max_tokens=1, now=0)
    taken(s)
    s.submit("b", [0], max_tokens=1, now=0)
    with pytest.raises(BusyError) as caught:
        s.submit("c", [0], max_tokens=1, now=7.5)
    assert caught.value.retry_after_s == 8
    s.finish("a", 20.0)
    taken(s)
    s.submit("c", [0], max_tokens=1, now=20)
    with pytest.raises(BusyError) as caught:
        s.submit("d", [0], max_tokens=1, now=21)
    assert caught.value.retry_after_s == 20


def test_what_waits_can_be_cancelled_and_has_no_slot():
    s = schedule(n_seq_max=1)
    s.submit("a", [0], max_tokens=1, now=0)
    s.submit("b", [0], max_tokens=1, now=0)
    taken(s)
    assert s.finish("b", 0) is None
    assert s.finish("a", 0) == 0
    assert s.turn(0) is None
    assert s.finish("unknown", 0) is None


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(1, 30), st.none() | st.integers(1, 10)), min_size=1, max_size=10),
)
def test_whatever_happens_each_token_is_sent_once_within_the_cache(data, n_ubatch, n_seq_max, window, requests):
    n_ctx = 40
    s = Schedule(n_ctx, n_ubatch, n_seq_max, window=window)
    left = {}
    for number, (length, limit) in enumerate(requests):
        s.submit(str(number), range(length), max_tokens=limit, now=0)
        left[str(number)] = limit if limit is not None else 12
    cells: dict[int, tuple[str, int]] = {}
    flying: list[Turn] = []
    began = []
    for _ in range(2000):
        turn = s.turn(0)
        if turn is not None:
            assert 0 < len(turn.rows) <= n_ubatch
            for slot, request_id in turn.begun:
                assert slot not in cells
                cells[slot] = (request_id, 0)
                began.append(int(request_id))
            for row in turn.rows:
                owner, next_position = cells[row.slot]
                assert (owner, next_position) == (row.request_id, row.position)
                cells[row.slot] = (owner, next_position + 1)
            assert sum(count for _, count in cells.values()) <= n_ctx
            flying.append(turn)
            assert len(flying) <= window
        elif not flying:
            break
        if flying and (turn is None or data.draw(st.booleans())):
            landing = flying.pop(0)
            s.landed()
            for row in landing.rows:
                if not row.is_wanted or row.request_id not in left:
                    continue
                left[row.request_id] -= 1
                is_cancelled = data.draw(st.integers(0, 9)) == 0
                if is_cancelled or left[row.request_id] <= 0 or not s.sampled(row.request_id, 0):
                    del left[row.request_id]
                    cells.pop(s.finish(row.request_id, 0))
    assert not left
    assert began == sorted(began)
