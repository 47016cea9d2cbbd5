"""Pieces are gathered, nothing is lost, reordered or kept waiting. The clock is passed in."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.stage.parcel import GATHER_S, Parcels
from mycoswarm.wire.report import AnyReport, Finished, Piece, TokenLogprob


class Desk:
    """A clock, its timers, and what was said."""

    def __init__(self) -> None:
        self.now, self.said, self.timers = 100.0, list[AnyReport](), list[tuple[float, Callable[[], None]]]()
        self.parcels = Parcels(self.said.append, self.later, lambda: self.now)

    def later(self, wait_s: float, act: Callable[[], None]) -> None:
        self.timers.append((self.now + wait_s, act))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        due = [act for at, act in self.timers if at <= self.now + 1e-9]
        self.timers = [timer for timer in self.timers if timer[0] > self.now + 1e-9]
        for act in due:
            act()


def piece(number: int, request_id: str = "r") -> Piece:
    entry = TokenLogprob(number, b"x", -1.0)
    return Piece(request_id=request_id, text=f"{number} ", token_ids=(number,), logprobs=(entry,))


def end(request_id: str = "r") -> Finished:
    return Finished(request_id=request_id, reason="stop", prompt_tokens=1, completion_tokens=1)


def test_the_first_piece_goes_at_once_and_quick_ones_after_it_together() -> None:
    desk = Desk()
    for number in range(4):
        desk.parcels.say(piece(number))
    assert desk.said == [piece(0)]
    desk.pass_time(GATHER_S)
    joined = desk.said[1]
    assert isinstance(joined, Piece) and (joined.text, joined.token_ids) == ("1 2 3 ", (1, 2, 3))
    assert joined.logprobs is not None and [entry.token_id for entry in joined.logprobs] == [1, 2, 3]
    assert len(desk.said) == 2 and not desk.timers


def test_slow_pieces_are_not_kept_waiting() -> None:
    desk = Desk()
    for number in range(3):
        desk.parcels.say(piece(number))
        desk.pass_time(GATHER_S * 2)
    assert desk.said == [piece(0), piece(1), piece(2)] and not desk.timers


def test_the_end_of_an_answer_comes_after_all_of_it() -> None:
    desk = Desk()
    desk.parcels.say(piece(0))
    desk.parcels.say(piece(1))
    desk.parcels.say(end())
    assert desk.said == [piece(0), piece(1), end()]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 0.05), st.booleans()), max_size=40))
def test_every_answer_is_what_it_would_be_without_gathering(steps: list[tuple[str, float, bool]]) -> None:
    desk = Desk()
    for number, (request_id, pause_s, is_end) in enumerate(steps):
        desk.parcels.say(end(request_id) if is_end else piece(number, request_id))
        desk.pass_time(pause_s)
    desk.pass_time(1.0)
    for name in "ab":
        sent = [number for number, (request_id, _, is_end) in enumerate(steps) if request_id == name and not is_end]
        came = [
            token
            for report in desk.said
            if isinstance(report, Piece) and report.request_id == name
            for token in report.token_ids
        ]
        assert came == sent
