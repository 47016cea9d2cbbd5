"""What the terminal is shown, and how commands end."""

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import (
    ApiKeyError,
    EnrolmentError,
    InputError,
    RefusedError,
    StageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.cli.screen import clean, guarded, show_json, show_table


@pytest.mark.parametrize(
    "text",
    [
        "plain\ttext\n",
        "می\N{ZERO WIDTH NON-JOINER}خواهم",
        "👩\N{ZERO WIDTH JOINER}👩\N{ZERO WIDTH JOINER}👧",
        "1\N{NARROW NO-BREAK SPACE}000\N{NO-BREAK SPACE}€",
        "東京\N{IDEOGRAPHIC SPACE}タワー",
        "\U0003fffd",
    ],
)
def test_words_of_all_people_stay_as_they_are(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize("bad", ["\x1b[2J", "\r", "\x07", "\x9b31m", "\N{RIGHT-TO-LEFT OVERRIDE}", "\ud800", "\x7f"])
def test_what_moves_the_cursor_or_turns_the_text_is_taken_out(bad: str) -> None:
    assert bad[0] not in clean(f"a{bad}b") and clean(f"a{bad}b").startswith("a�")


@pytest.mark.slow
@given(st.text(alphabet=st.characters()))
def test_cleaned_text_has_no_controls_keeps_its_length_and_can_be_written(text: str) -> None:
    shown = clean(text)
    assert len(shown) == len(text) and clean(shown) == shown
    assert not [c for c in shown if ord(c) < 32 and c not in "\n\t"]
    shown.encode()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("wrong"), 1),
        (SwarmError("failed"), 1),
        (RefusedError("no place"), 3),
        (ApiKeyError("no key"), 3),
        (EnrolmentError("old token"), 3),
        (UnreachableError("no daemon"), 4),
        (SwarmError("gone", code="unreachable"), 4),
        (SwarmError("too slow", code="timeout"), 4),
    ],
)
def test_a_command_ends_with_the_code_that_the_documents_name(error: SwarmError, code: int) -> None:
    @click.command()
    @guarded
    def failing() -> None:
        raise error

    done = CliRunner().invoke(failing)
    assert done.exit_code == code and isinstance(done.exception, SystemExit)


def test_ctrl_c_ends_quietly() -> None:
    @click.command()
    @guarded
    def stopped() -> None:
        raise KeyboardInterrupt

    assert CliRunner().invoke(stopped).exit_code == 130


def test_an_error_brings_its_cure_and_the_last_words_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    @guarded
    def failing() -> None:
        raise StageError("it \x1b[2Jbroke", last_words=("llama: \x07no", "memory"), hint="Add some.")

    with pytest.raises(SystemExit):
        failing()
    told = capsys.readouterr().err
    assert "error: it �[2Jbroke" in told and "| llama: �no" in told and "| memory" in told and "Add some." in told


def test_a_table_and_json_keep_markup_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(("Name",), [("[bold]x[/bold]",), (None,)])
    show_json({"name": "ü[red]"})
    told = capsys.readouterr().out
    assert "[bold]x[/bold]" in told and "ü[red]" in told
