"""What the terminal is shown, and how commands end."""

import io

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mycoswarm.base.errors import (
    ApiKeyError,
    EnrolmentError,
    InputError,
    RefusedError,
    StageError,
    SwarmError,
    UnreachableError,
)
from mycoswarm.cli.screen import clean, counted, fitted, guarded, show_json, show_table


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


def test_a_terminal_gets_lines_broken_between_words_and_a_script_gets_them_whole() -> None:
    text = "  it could reach laptop, by the rule 'private only on the tower'; allowed is only tower\nshort"
    screen = Console(file=io.StringIO(), force_terminal=True, width=40)
    lines = fitted(text, screen).splitlines()
    assert all(len(line) <= 40 for line in lines) and lines[-1] == "short"
    assert lines[0].startswith("  it") and lines[1].startswith("    ")
    assert " ".join(fitted(text, screen).split()) == " ".join(text.split())
    assert fitted(text, Console(file=io.StringIO(), width=40)) == text


def test_a_key_or_token_is_never_broken() -> None:
    token = "mss1-" + "x" * 200
    assert fitted(token, Console(file=io.StringIO(), force_terminal=True, width=40)) == token


def test_an_empty_table_says_what_to_do_and_what_is_to_be_copied_stays_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_table(("Id",), [], none="There are none.")
    assert capsys.readouterr().out == "There are none.\n"
    monkeypatch.setenv("COLUMNS", "40")
    show_table(("Id", "Why"), [("17a9dc19859a5ecf46c24fe5", "many words " * 9)], whole=1)
    assert "17a9dc19859a5ecf46c24fe5" in capsys.readouterr().out


def test_one_is_one() -> None:
    assert (counted(1, "test"), counted(0, "test"), counted(2, "test")) == ("1 test", "0 tests", "2 tests")
