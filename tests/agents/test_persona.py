"""Agent files: what they say, and that every wrong one is a typed error with its line."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.agents.persona import MAX_BYTES, is_name, read_profile
from mycoswarm.agents.purse import Budget
from mycoswarm.agents.team import HELPER, Team
from mycoswarm.base.errors import InputError, NotFoundError

FULL = """\
name = "scout"
description = "Looks things up."
model = "qwen3"
system = "Be short."
tools = ["read_*", "calculator"]
labels = ["private"]

[budget]
max_steps = 3
tokens = 50
seconds = 1.5
"""


def test_a_file_says_all_of_an_agent() -> None:
    found = read_profile(FULL, "scout")
    assert (found.name, found.model, found.system) == ("scout", "qwen3", "Be short.")
    assert found.labels == {"private"} and found.budget == Budget(max_steps=3, tokens=50, seconds=1.5)
    assert [found.takes(tool) for tool in ("read_file", "calculator", "run_shell", "Calculator")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_is_left_out_has_its_usual_value_and_no_tool_at_all() -> None:
    found = read_profile('model = "spore"', "plain")
    assert found.budget == Budget() and found.tools == () and not found.takes("calculator")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model = ", "line 1"),
        ('model = "a"\nmodel = "b"', "line 2"),
        ('description = "x"', "model is missing"),
        ('model = "a"\n\nmodle = "b"', "line 3: modle is no field"),
        ("model = 7", "line 1: model must be a text"),
        ('model = "a"\ntools = "calculator"', "line 2: tools must be a list"),
        ('model = "a"\ntools = ["a b"]', "line 2: tools names"),
        ('model = "a"\nlabels = ["Private!"]', "line 2: labels holds"),
        ('model = "a"\ncertificate = 0', "line 2: certificate must be"),
        ('model = "a"\ncertificate = 101', "line 2: certificate must be"),
        ('model = "a"\ncertificate = true', "line 2: certificate must be"),
        ('model = "a"\ncertificate = "80"', "line 2: certificate must be"),
        ('model = "a"\nbudget = 3', "line 2: budget must be a table"),
        ('model = "a"\n[budget]\nsteps = 3', "line 3: budget.steps is no field"),
        ('model = "a"\n[budget]\nmax_steps = 0', "line 3: budget.max_steps"),
        ('model = "a"\n[budget]\nmax_steps = true', "line 3: budget.max_steps"),
        ('model = "a"\nbudget.tokens = 1.5', "line 2: budget.tokens"),
        ('model = "a"\n[budget]\nseconds = nan', "line 3: budget.seconds"),
        ('model = "a"\n[budget]\nseconds = inf', "line 3: budget.seconds"),
        ('model = "a"\nname = "b"', "line 2: name is not"),
        ("x = " + "[" * 3000, "x.toml"),
        ("#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_wrong_file_is_an_error_that_says_where(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_profile(text, "x")
    assert said in caught.value.message and caught.value.code == "bad_agent_file"


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=60)
    | st.builds(
        lambda a, b: f"model = 'm'\n{a} = {b}", st.sampled_from(["tools", "labels", "budget"]), st.text(max_size=30)
    )
)
def test_any_text_is_an_agent_or_a_typed_error(text: str) -> None:
    try:
        read_profile(text, "x")
    except InputError as error:
        assert error.code == "bad_agent_file"


def test_a_file_may_ask_for_a_certificate() -> None:
    assert read_profile('model = "a"\ncertificate = 80', "scout").certificate == 80
    assert read_profile('model = "a"', "scout").certificate is None


@pytest.mark.parametrize("name", ["", "-a", "A", "a/b", "..", "a.b", "a" * 41, "ä", "a\n"])
def test_names_are_plain(name: str) -> None:
    assert not is_name(name)


def test_a_fresh_folder_has_the_helper(tmp_path: Path) -> None:
    (one,) = Team(tmp_path / "agents").members()
    assert one.name == HELPER and not one.is_own and one.profile is not None and one.profile.model == "spore"
    with pytest.raises(InputError):
        Team(tmp_path / "agents").remove(HELPER)
    assert not (tmp_path / "agents").exists(), "looking makes nothing"


def test_an_agent_is_put_shown_and_removed(tmp_path: Path) -> None:
    team = Team(tmp_path / "agents")
    team.put("scout", FULL)
    path = tmp_path / "agents" / "scout.toml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and team.member("scout").text == FULL
    assert [one.name for one in team.members()] == ["helper", "scout"]
    with pytest.raises(InputError):
        team.put("scout", "model = ")
    assert team.member("scout").text == FULL, "a wrong one changes nothing"
    team.remove("scout")
    with pytest.raises(NotFoundError):
        team.profile("scout")


def test_a_helper_of_ones_own_goes_first_until_it_is_removed(tmp_path: Path) -> None:
    team = Team(tmp_path)
    team.put(HELPER, 'model = "big"')
    assert team.profile(HELPER).model == "big"
    team.remove(HELPER)
    assert team.profile(HELPER).model == "spore"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "long", "bytes", "toml"])
def test_a_file_that_is_none_is_shown_as_broken_and_breaks_no_other(tmp_path: Path, kind: str) -> None:
    team, path = Team(tmp_path), tmp_path / "bad.toml"
    team.put("scout", FULL)
    if kind == "link":
        (tmp_path / "secret").write_text(FULL)
        path.symlink_to(tmp_path / "secret")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes({"long": b"#" * (MAX_BYTES + 1), "bytes": b"\xff", "toml": b"model ="}[kind])
    bad, _, scout = team.members()
    assert bad.name == "bad" and bad.fault and bad.profile is None and bad.text == ""
    assert scout.profile is not None
    with pytest.raises(InputError):
        team.profile("bad")


@pytest.mark.parametrize("name", ["../scout", "/etc/passwd", "scout/../scout", "x" * 300, ""])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    team = Team(tmp_path / "agents")
    for act in (team.member, team.profile, team.remove):
        with pytest.raises(NotFoundError):
            act(name)
    with pytest.raises(InputError):
        team.put(name, FULL)
