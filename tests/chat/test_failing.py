"""What a log says of a failed request: never what an endpoint or a model's template says of it."""

import pytest

from mycoswarm.base.errors import (
    BusyError,
    EndpointError,
    InputError,
    ModelError,
    RefusedError,
    RingError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.chat.failing import plainly

WORDS = "the heliotrope is purple"


@pytest.mark.parametrize(
    "error",
    [
        EndpointError(WORDS),
        BusyError(WORDS, retry_after_s=1, code="endpoint_busy"),
        InputError(WORDS, code="template_refused"),
        ModelError(WORDS, code="bad_chat_template"),
        SwarmError(WORDS),
    ],
)
def test_words_of_strangers_are_left_out(error: SwarmError) -> None:
    assert plainly(error) == f"({error.code})"


@pytest.mark.parametrize("error", [RingError(WORDS), UnreachableError(WORDS), RefusedError(WORDS)])
def test_our_own_words_say_what_happened(error: SwarmError) -> None:
    assert plainly(error) == WORDS
