"""Real daemons on machines without bubblewrap: as root, and as a user to whom nobody gives namespaces."""

import os
import platform
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mycoswarm.cli.fleet import ARGV, Fleet
from mycoswarm.sandbox.kernel import SET_NO_NEW_PRIVILEGES, control, filter_calls
from mycoswarm.sandbox.landlock import WITH_SCOPES, version
from sandbox.lodger import lodging, room_of_its_own

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user"),
    pytest.mark.skipif(version() < WITH_SCOPES, reason="this kernel's Landlock has no scopes"),
]

UNSHARE = {"x86_64": 272, "aarch64": 97}


def told(folder: Path, nothing: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """What `doctor` says of a daemon without bubblewrap on its PATH, what a tool says there, and both in words."""
    os.environ["PATH"] = str(nothing)
    with Fleet(workers=0, folder=folder) as fleet:
        fleet.enrol()
        call = fleet.coordinator.call
        call.ask("POST", "/api/tools/write_file", {"arguments": {"path": "a", "text": "text"}}, timeout_s=60)
        told = call.ask("POST", "/api/tools/list_files", {"arguments": {}}, timeout_s=60)
        words = [*ARGV, "--data", str(fleet.coordinator.folder), "doctor"]
        said = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
        return call.ask("GET", "/api/doctor")["sandbox"], told, said


def told_without_namespaces(folder: Path, nothing: Path) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The same where the call for namespaces is refused, as in most containers."""
    steps = ((0x20, 0, 0, 0), (0x15, 0, 1, UNSHARE[platform.machine()]), (6, 0, 0, 0x50001), (6, 0, 0, 0x7FFF0000))
    control(SET_NO_NEW_PRIVILEGES, 1)
    filter_calls(b"".join(struct.pack("=HBBI", *step) for step in steps))
    return told(folder, nothing)


def test_a_daemon_of_root_has_a_sandbox_without_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.environ["PATH"])
    sandbox, answer, said = told(tmp_path, tmp_path / "nothing")
    assert sandbox["level"] == "landlock" and "not installed" in sandbox["why"] and answer["ok"], (sandbox, answer)
    assert "Sandbox: landlock (bubblewrap is not installed" in said
    assert "namespaces for mounts, processes, network" in sandbox["covers"][0]


def test_a_daemon_of_a_user_without_namespaces_has_one_too_and_says_what_it_lacks(tmp_path: Path) -> None:
    with room_of_its_own() as folder, lodging() as pool:
        sandbox, answer, said = pool.submit(told_without_namespaces, folder, tmp_path).result()
    assert sandbox["level"] == "landlock" and answer["ok"], (sandbox, answer)
    assert "no namespaces" in sandbox["covers"][0] and any("can be seen" in each for each in sandbox["lacks"])
    assert "not covered: tools cannot change the mode of a file" in said
