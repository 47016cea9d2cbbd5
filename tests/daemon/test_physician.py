"""What the doctor finds wrong: only what is, and each with its cause and its cure."""

from dataclasses import replace
from pathlib import Path

import pytest

from hardware.recording import load_machine
from mycoswarm.base.units import GIB, MIB
from mycoswarm.daemon.gauge import OwnMachine
from mycoswarm.daemon.physician import findings
from mycoswarm.hardware.disk import Disk
from mycoswarm.hardware.machine import Machine
from mycoswarm.sandbox.level import SandboxLevel
from mycoswarm.stage.crash import Crashes

WALLED = SandboxLevel("bubblewrap", "/usr/bin/bwrap", True, (), ())
BARE = SandboxLevel("limits", None, False, (), (), "bubblewrap is not installed")


def machine(free_bytes: int | None) -> Machine:
    return replace(load_machine("raspberry-pi-4-4gb"), disk=Disk(64 * GIB, free_bytes))


@pytest.mark.parametrize("found", [None, machine(None), machine(GIB)])
def test_a_sound_machine_and_one_that_is_not_known_have_nothing_wrong(found: Machine | None) -> None:
    assert findings(WALLED, found, guarded=True, crashed=()) == ()


def test_each_thing_that_is_wrong_says_why_and_what_to_do() -> None:
    crashed = [("big", Crashes(3, 0.0, ("loading", "GGML_ASSERT(a == b) failed"))), ("mute", Crashes(4, 0.0, ()))]
    found = findings(BARE, machine(300 * MIB), guarded=False, crashed=crashed)
    codes = ["no_sandbox", "egress_unguarded", "disk_nearly_full", "model_marked_bad", "model_marked_bad"]
    assert [one.code for one in found] == codes
    causes = [
        "bubblewrap is not installed",
        "connecting anywhere",
        "300.0 MiB",
        "GGML_ASSERT(a == b) failed",
        "4 times",
    ]
    assert all(cause in one.message for cause, one in zip(causes, found, strict=True))
    assert all(one.hint for one in found)


def test_the_machine_now_has_the_memory_and_disk_of_now(tmp_path: Path) -> None:
    own = OwnMachine(tmp_path, gpu=False, known_speed=None)
    assert own.now() is None
    own.machine = replace(machine(1), notes=("as it was",))
    now = own.now()
    assert now is not None and now.notes == ("as it was",) and now.board == own.machine.board
    assert now.disk.free_bytes not in (None, 1) and now.memory != own.machine.memory
