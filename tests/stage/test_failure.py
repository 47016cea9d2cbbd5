"""Errors cross a wire and come back as themselves."""

import pytest

from mycoswarm.base.errors import (
    BusyError,
    CapacityError,
    CaptureError,
    InputError,
    ModelFileError,
    ProtocolError,
    RingError,
    StageError,
    SwarmError,
    TicketError,
)
from mycoswarm.stage.failure import describe, lost, retold, revive
from mycoswarm.wire.frame import Trouble

ERRORS = [
    InputError("a"),
    TicketError("b"),
    ModelFileError("c", hint="do"),
    CapacityError("d"),
    CaptureError("e"),
    ProtocolError("f"),
    BusyError("g", retry_after_s=7),
    StageError("h", last_words=("i", "j")),
    lost("node", "k"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_comes_back_with_class_words_and_figures(error: SwarmError) -> None:
    back = revive(describe(error, request_id="r"))
    assert type(back) is type(error)
    assert (back.message, back.hint, back.code, back.status) == (error.message, error.hint, error.code, error.status)
    for name in ("retry_after_s", "last_words", "lost_node_id"):
        assert getattr(back, name, None) == getattr(error, name, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("a", code="context_length_exceeded"), InputError),
        (StageError("b", code="kv_full", last_words=("x",)), StageError),
        (RingError("c", code="node_silent"), RingError),
        (BusyError("d", code="queue_full", retry_after_s=3), BusyError),
    ],
)
def test_a_more_precise_code_comes_back_as_the_nearest_class(error: SwarmError, kind: type[SwarmError]) -> None:
    back = revive(describe(error, request_id="r"))
    assert type(back) is kind and back.code == error.code


def test_a_failure_of_the_ring_names_the_node_where_it_was_said_unless_it_names_another() -> None:
    assert describe(CaptureError("a"), node_id="here").lost_node_id == "here"
    assert describe(lost("there", "b"), node_id="here").lost_node_id == "there"
    assert describe(InputError("c"), request_id="r", node_id="here").lost_node_id is None


def test_trouble_of_another_stage_is_told_again() -> None:
    error = retold(Trouble("capture_failed", "no rows", "node"))
    assert type(error) is CaptureError and error.lost_node_id == "node" and error.message == "no rows"
    assert type(retold(Trouble("bad_ticket", "x", "node"))) is RingError
    assert retold(Trouble("bad_ticket", "x", "node")).code == "bad_ticket"
    assert retold(Trouble("never heard of", "x", "node")).code == "never heard of"
