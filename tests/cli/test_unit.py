"""What service managers are told: checked by systemd itself where it is here."""

import os
import plistlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.base.errors import SetupError
from mycoswarm.cli.entry import main
from mycoswarm.cli.unit import launchd_job, quoted, system_unit, user_unit
from mycoswarm.cli.upkeep import check_reachable

PROGRAM = Path("/usr/bin/true")  # one that is there: systemd looks

systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def verify(text: str, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    path = folder / "mycoswarm.service"
    path.write_text(text)
    command = ["systemd-analyze", *words, "verify", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@systemd
@pytest.mark.slow
@pytest.mark.parametrize("groups", [(), ("video", "render")])
def test_systemd_finds_nothing_wrong_with_the_system_s_unit(groups: tuple[str, ...], tmp_path: Path) -> None:
    done = verify(system_unit(PROGRAM, groups), tmp_path)
    assert done.returncode == 0 and "mycoswarm.service" not in done.stderr, done.stderr


@systemd
@pytest.mark.slow
def test_systemd_finds_nothing_wrong_with_a_person_s_unit(tmp_path: Path) -> None:
    done = verify(user_unit(PROGRAM, tmp_path / "my data"), tmp_path)
    assert done.returncode == 0 and "mycoswarm.service" not in done.stderr, done.stderr


@systemd
@pytest.mark.slow
def test_systemd_would_say_so(tmp_path: Path) -> None:
    broken = system_unit(PROGRAM, ()).replace("ProtectHome=yes", "ProtectHomes=yes")
    assert "ProtectHomes" in verify(broken, tmp_path).stderr


@systemd
@pytest.mark.slow
def test_the_system_s_unit_is_hardened_by_systemd_s_own_measure(tmp_path: Path) -> None:
    """Of 10: unhardened is 9.6. What is left is the network, namespaces and mounts, which the daemon needs."""
    path = tmp_path / "mycoswarm.service"
    path.write_text(system_unit(PROGRAM, ()))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"Overall exposure level.*?: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) < 3.5


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f/"), min_size=1, max_size=30))
def test_any_path_is_one_word_of_a_unit(name: str) -> None:
    word = quoted(Path("/opt") / name)
    assert "%" not in word.replace("%%", "") and "$" not in word.replace("$$", "")
    assert " " not in word or (word[0] == word[-1] == '"')


def test_the_mac_s_job_is_a_property_list_that_starts_the_daemon() -> None:
    told = plistlib.loads(launchd_job(Path("/Applications/mycoswarm-node"), Path("/data"), Path("/data/log")))
    assert told["ProgramArguments"] == ["/Applications/mycoswarm-node", "--data", "/data", "run"]
    assert told["RunAtLoad"] is True


def test_print_shows_the_unit_and_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", [str(PROGRAM)])
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    done = CliRunner().invoke(main, ["service", "install", "--print"])
    assert done.exit_code == 0, done.output
    assert f"ExecStart={PROGRAM} --data" in done.output and "NoNewPrivileges=yes" in done.output
    assert not list(tmp_path.iterdir())


def test_a_program_in_a_closed_folder_is_no_service_s(tmp_path: Path) -> None:
    program = tmp_path / "mycoswarm-node"
    program.write_bytes(b"")
    program.chmod(0o755)
    tmp_path.chmod(0o700)
    with pytest.raises(SetupError, match="closed to others"):
        check_reachable(program)


@pytest.mark.skipif(os.geteuid() != 0, reason="asks about the machine's own service, as root")
def test_what_was_not_installed_is_said(tmp_path: Path) -> None:
    if Path("/etc/systemd/system/mycoswarm.service").exists():
        pytest.skip("this machine has the service")
    for word in ("status", "uninstall"):
        done = CliRunner().invoke(main, ["service", word])
        assert done.exit_code == 0 and "not installed" in done.output
