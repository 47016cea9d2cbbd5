"""Settings from a file, the environment and flags."""

from pathlib import Path

import pytest

from mycoswarm.base.errors import SettingError
from mycoswarm.base.settings import FILE_NAME, load_settings, meanings, split_address

ROOT = Path(__file__).resolve().parents[2]


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('name = "file"\nthreads = 3\ncontext_tokens = 512\n')
    settings = load_settings(tmp_path, {"MYCOSWARM_NAME": "environment", "MYCOSWARM_THREADS": "5"}, {"name": "flag"})
    assert (settings.name, settings.threads, settings.context_tokens) == ("flag", 5, 512)


def test_lists_come_from_the_environment_with_commas(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"MYCOSWARM_PEERS": "a:1, b:2"}).peers == ("a:1", "b:2")


@pytest.mark.parametrize(
    "text",
    [
        "nonsense = 1",
        "threads = true",
        'threads = "3"',
        "threads = -1",
        'log_level = "loud"',
        "peers = [1]",
        "= =",
        'hub = "http://hub.example"',
        'hub = "https://me@hub.example"',
        'hub = ""',
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(SettingError) as caught:
        load_settings(tmp_path, {})
    assert caught.value.hint


@pytest.mark.parametrize(
    "variable", [{"MYCOSWARM_THREADS": "many"}, {"MYCOSWARM_GPU": "perhaps"}, {"MYCOSWARM_PEER": "x"}]
)
def test_a_wrong_variable_is_named(tmp_path: Path, variable: dict[str, str]) -> None:
    with pytest.raises(SettingError):
        load_settings(tmp_path, variable)


def test_addresses_are_split() -> None:
    assert split_address(":6927") == ("", 6927)
    assert split_address("[fe80::1]:80") == ("fe80::1", 80)
    with pytest.raises(SettingError):
        split_address("fe80::1:80")


def test_every_setting_is_documented_with_its_default() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `")}
    wanted = meanings()
    assert set(rows) == set(wanted)
    for name, (default, meaning) in wanted.items():
        assert f"`{default}`" in rows[name] and meaning in rows[name]


def test_networks_that_the_owner_calls_lan_must_be_networks(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {"MYCOSWARM_LAN": "10.8.0.0/24, fd00::/8"}).lan == ("10.8.0.0/24", "fd00::/8")
    with pytest.raises(SettingError, match="lan names"):
        load_settings(tmp_path, {"MYCOSWARM_LAN": "10.8.0.5/24"})
