"""Text comes out whole: no half characters, no stop string, nothing lost, wherever the tokens' borders are."""

from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.stage.answer import Answer

END = 0


def answer(pieces: list[bytes], *, stop: tuple[str, ...] = (), max_tokens: int | None = None) -> Answer:
    words = [b"", *pieces]
    return Answer(
        "r", stop=stop, max_tokens=max_tokens, token_bytes=words.__getitem__, is_end=lambda token: token == END
    )


def spoken(pieces: list[bytes], *, stop: tuple[str, ...] = (), max_tokens: int | None = None) -> tuple[str, str | None]:
    a = answer(pieces, stop=stop, max_tokens=max_tokens)
    text = ""
    for token in [*range(1, len(pieces) + 1), END]:
        if a.reason is None:
            text += a.push(token).text
    return text, a.reason


def reference(text: str, stops: tuple[str, ...]) -> str:
    """Character by character, the plain definition."""
    for end in range(1, len(text) + 1):
        found = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(found)]
    return text


TEXTS = st.text(alphabet="ab\né🍄c", max_size=30)
STOPS = st.lists(st.text(alphabet="abé🍄", min_size=1, max_size=4), max_size=4).map(tuple)


@given(TEXTS, STOPS, st.data())
def test_the_text_ends_before_the_first_stop_string_whatever_the_token_borders(text, stops, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    said, reason = spoken(pieces, stop=stops)
    assert said == reference(text, stops)
    assert reason == "stop"


@given(TEXTS, STOPS, st.data())
def test_an_answer_carried_on_elsewhere_loses_and_repeats_nothing(text, stops, data):
    raw = text.encode()
    pieces = [raw[i : i + 1] for i in range(len(raw))]
    at = data.draw(st.integers(0, len(pieces)))
    tokens = list(range(1, len(pieces) + 1))
    before = answer(pieces, stop=stops)
    said = "".join(before.push(token).text for token in tokens[:at] if before.reason is None)
    after = answer(pieces, stop=stops)
    after.carry_on(tokens[:at])
    assert after.reason == before.reason
    said += "".join(after.push(token).text for token in [*tokens[at:], END] if after.reason is None)
    assert said == reference(text, stops)


@given(st.lists(st.binary(max_size=3), max_size=12))
def test_bytes_that_are_no_text_become_replacement_characters(pieces):
    assert spoken(pieces)[0] == b"".join(pieces).decode("utf-8", "replace")


def test_half_a_character_is_held_back():
    a = answer([b"\xf0\x9f", b"\x8d\x84"])
    assert a.push(1).text == ""
    assert a.push(2).text == "🍄"


def test_what_could_begin_a_stop_string_is_held_back_and_comes_out_when_it_does_not():
    a = answer([b"one\n", b"two"], stop=("\n\n",))
    assert a.push(1).text == "one"
    assert a.push(2).text == "\ntwo"


def test_the_end_token_is_named_and_has_no_text():
    a = answer([b"x"], stop=("xyz",))
    assert a.push(1).text == ""
    piece = a.push(END)
    assert (piece.text, piece.token_ids, a.reason) == ("x", (END,), "stop")


def test_the_token_limit_ends_the_answer_with_what_was_held_back():
    a = answer([b"a", b"b"], stop=("bc",), max_tokens=2)
    assert a.push(1).text == "a"
    assert a.push(2).text == "b"
    assert a.reason == "length"


def test_tokens_carried_on_count_towards_the_limit():
    a = answer([b"a", b"b"], max_tokens=2)
    a.carry_on([1, 2])
    assert (a.reason, a.n_tokens) == ("length", 2)


def test_no_tokens_may_be_asked_for():
    assert answer([], max_tokens=0).reason == "length"


def test_an_answer_ended_from_outside_gives_up_what_it_held():
    a = answer([b"x"], stop=("xyz",))
    a.push(1)
    piece = a.end("length")
    assert piece is not None
    assert (piece.text, piece.token_ids) == ("x", ())
    assert a.end("length") is None
