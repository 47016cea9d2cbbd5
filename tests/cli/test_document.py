"""Rules as TOML: nothing is lost on the way, and what cannot be read is said."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import InputError, SetupError, StorageError
from mycoswarm.cli.document import MAX_BYTES, Document, edited, read_document, read_text, rule_words, written

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
WORDS = st.lists(TEXTS, min_size=1, max_size=3)
NUMBERS = st.integers(0, 2**53)
WHEN = st.fixed_dictionaries(
    {},
    optional={
        "model": TEXTS,
        "keys": WORDS,
        "labels": st.dictionaries(st.sampled_from(["any", "all", "none"]), WORDS, min_size=1),
        "characters": st.fixed_dictionaries({"from": NUMBERS}, optional={"to": NUMBERS}),
    },
)
ACTIONS = st.one_of(
    st.fixed_dictionaries({"do": st.just("run")}, optional={"nodes": WORDS, "split": TEXTS}),
    st.fixed_dictionaries({"do": st.just("external"), "name": TEXTS}),
    st.fixed_dictionaries({"do": st.just("ask"), "then": st.just({"do": "run"}), "within_s": st.floats(1, 3600)}),
)
RULES = st.fixed_dictionaries(
    {"name": TEXTS, "then": ACTIONS},
    optional={"when": WHEN, "enabled": st.just(False), "note": TEXTS, "fallback": st.lists(ACTIONS, max_size=2)},
)
TESTS = st.dictionaries(
    TEXTS,
    st.fixed_dictionaries({"request": st.just({"model": "m"}), "expect": st.just({"outcome": "run"})}),
    max_size=3,
)


@given(st.lists(RULES, max_size=4), TESTS)
def test_a_document_that_is_written_is_read_back_as_it_was(rules: list[Any], tests: dict[str, Any]) -> None:
    document = Document([rule_words(rule) for rule in rules], tests)
    text = written(document)
    assert read_document(text) == document
    assert written(read_document(text)) == text


def test_what_the_daemon_adds_to_a_rule_is_not_the_owners_word() -> None:
    shown = {"id": 5, "position": 1, "name": "x", "enabled": True, "then": {"do": "run"}, "changed_by": "owner"}
    assert rule_words(shown) == {"name": "x", "then": {"do": "run"}}
    assert rule_words({**shown, "enabled": False})["enabled"] is False


def test_one_rule_alone_needs_no_heading() -> None:
    assert read_document('name = "x"\nthen = {do = "deny"}').rules == [{"name": "x", "then": {"do": "deny"}}]
    assert read_document("") == Document()


@pytest.mark.parametrize(
    "text",
    [
        "name =",
        "[rule]\nname = 'x'",
        "rule = 5",
        "rule = [5]",
        "[[rule]]\nname='x'\n[[tests]]\nname='y'",
        "[[test]]\nrequest = {}",
        "[[test]]\nname = 5",
        "[[test]]\nname = 'x'\n[[test]]\nname = 'x'",
        "a = " + "[" * 100_000,
    ],
)
def test_what_is_no_document_is_said(text: str) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_document(text)


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"name = '\xff'")
    (tmp_path / "long").write_bytes(b"#" * (MAX_BYTES + 1))
    for name, kind in (("none", StorageError), ("latin", InputError), ("long", InputError)):
        with pytest.raises(kind):
            read_text(tmp_path / name)


def editor(folder: Path, body: str) -> str:
    """An editor that is a script, under a name with a space and a sign that shells would obey."""
    script = folder / "an editor; touch $HOME.py"
    script.write_text(f"import pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n{body}\n")
    return f"{sys.executable} '{script}'"


def test_an_editor_is_run_by_its_words_and_never_by_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "assert path.stat().st_mode & 0o77 == 0 or path.parent.stat().st_mode & 0o77 == 0\n"
    body += "path.write_text(path.read_text() + 'more')"
    monkeypatch.setenv("VISUAL", editor(tmp_path, body) + " --flag")
    assert edited("text and ") == "text and more"
    monkeypatch.delenv("VISUAL")
    monkeypatch.setenv("EDITOR", f"{sys.executable} -c pass; touch {tmp_path}/made")
    edited("x")
    assert not (tmp_path / "made").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["an editor; touch $HOME.py"]


@pytest.mark.parametrize("named", ["no-such-editor", "'", sys.executable + " -c 'raise SystemExit(3)'"])
def test_an_editor_that_fails_changes_nothing(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUAL", named)
    with pytest.raises(SetupError):
        edited("x")
