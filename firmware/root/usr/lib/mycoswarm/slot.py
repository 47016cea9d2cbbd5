"""Two system slots: which one starts, and the way back where another version does not prove itself.

The Pi's firmware reads the slot out of `config.txt`, whose first line is `os_prefix=a/` or `os_prefix=b/`: kernel,
initramfs, device trees and command line come from that folder, and the command line names the system partition. A
switch changes that one letter where it lies, so that whenever the plug is pulled the card holds one or the other.

`/data/slot/trial` says that a slot is on trial and counts its starts: the initramfs counts, before anything else of the
new system runs, and goes back at the fourth. Here the trial ends: the daemon answers /healthz within five minutes and
the slot stays, or the other one is started again. Covered: a system that hangs, starts over or does not answer. Not
covered: a kernel that does not get to its initramfs; then somebody writes the other letter into `config.txt`.
"""

import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import machine
from machine import BOOT, DATA, Trouble

STATE = DATA / "slot"
ABOUT = Path("etc/mycoswarm/image")
LETTERS = "ab"
FIRST_LINE = re.compile(rb"os_prefix=([ab])/\r?\n")
LETTER_AT = len(b"os_prefix=")
HEALTHY_S = 300.0
MOST_STARTS = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """A slot that has to prove itself, and how often it was started since."""

    slot: str
    starts: int = 0


def parse_trial(text: str) -> Trial | None:
    """Read the file's text; None where it is damaged. Pure."""
    match = re.fullmatch(r"([ab]) ([0-9]{1,3})\n?", text)
    return Trial(match[1], int(match[2])) if match else None


def other(slot: str) -> str:
    """The other slot's letter. Pure."""
    return LETTERS[1 - LETTERS.index(slot)]


def running(cmdline: str) -> str:
    """The slot that runs, by the kernel's command line. Pure.

    Raises:
        Trouble: it names none.
    """
    match = re.search(r"(?:^|\s)mycoswarm\.slot=([ab])(?:\s|$)", cmdline)
    if match is None:
        raise Trouble("the kernel's command line names no slot")
    return match[1]


def step(current: str, trial: Trial | None, *, healthy: bool | None) -> str:
    """What is due: "nothing", "wait" for its health, "keep" it, "back" to the other one, or "gone": another runs.

    `healthy` is None while that is not known. Pure.
    """
    if trial is None:
        return "nothing"
    if trial.slot != current:
        return "gone"
    if trial.starts > MOST_STARTS:
        return "back"
    if healthy is None:
        return "wait"
    return "keep" if healthy else "back"


def chosen(config: Path) -> str:
    """The slot that the next start takes.

    Raises:
        Trouble: the file does not begin as it should.
    """
    with config.open("rb") as file:
        match = FIRST_LINE.match(file.read(64))
    if match is None:
        raise Trouble(f"the first line of {config.name} must be os_prefix=a/ or os_prefix=b/")
    return match[1].decode()


def choose(config: Path, slot: str) -> None:
    """Have the next start take a slot: one letter, in place.

    Raises:
        Trouble: the file does not begin as it should.
    """
    if chosen(config) == slot:
        return
    number = os.open(config, os.O_WRONLY)
    try:
        os.pwrite(number, slot.encode(), LETTER_AT)
        os.fsync(number)
    finally:
        os.close(number)


def read_about(text: str) -> dict[str, str]:
    """What an image says of itself, "name=value" on each line. Pure."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def read_trial(file: Path) -> Trial | None:
    """The trial that there is; None also where its file is damaged."""
    return parse_trial(file.read_text("ascii", "replace")) if file.exists() else None


def about(root: Path) -> dict[str, str]:
    """What the system in a folder says of itself.

    Raises:
        Trouble: nothing.
    """
    try:
        return read_about((root / ABOUT).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise Trouble("this is no system for this appliance: it does not say what it is") from exc


def try_out() -> None:
    """At each start: end a trial, one way or the other. Where that fails, the next start is counted like this one."""
    current = running(Path("/proc/cmdline").read_text())
    trial = read_trial(STATE / "trial")
    if not (STATE / "trial").exists():
        return
    due = step(current, trial, healthy=None)
    if due == "wait":
        print(f"slot {current} is on trial for {HEALTHY_S:.0f} s", flush=True)
        due = step(current, trial, healthy=healthy_within(HEALTHY_S))
    version = about(Path("/")).get("version", "unknown")
    if trial is None:
        end(STATE, f"The record of an update was damaged: slot {current} with version {version} stays.")
    elif due != "back":
        end(STATE, verdict(current, trial, version))
    else:
        go_back(trial, version)


def verdict(current: str, trial: Trial, version: str) -> str:
    """What to tell of a trial that has ended with the slot that runs. Pure."""
    if trial.slot == current:
        return f"The update to version {version} holds: slot {current}."
    if trial.starts == 0:
        return f"The update is not in use: slot {trial.slot} did not start. This is version {version}."
    starts = min(trial.starts, MOST_STARTS)
    told = f"slot {trial.slot} has not proved itself (starts: {starts})"
    return f"The update was taken back: {told}. This is version {version}."


def go_back(trial: Trial, version: str) -> None:
    """Start the other slot. Where config.txt cannot be changed, another start may help; after the last one this slot
    stays, and says why."""
    try:
        with machine.writable_boot():
            choose(BOOT / "config.txt", other(trial.slot))
    except (OSError, Trouble) as exc:
        print(exc, file=sys.stderr, flush=True)
        if trial.starts > MOST_STARTS:
            end(STATE, f"The update to version {version} does not answer, and cannot be taken back: {exc}")
            return
    else:
        minutes = HEALTHY_S / 60
        end(STATE, f"The update to version {version} was taken back: it did not answer within {minutes:.0f} minutes.")
    machine.run("systemctl", "reboot")


def end(state: Path, result: str) -> None:
    """The trial is over; the result is shown with the setup text."""
    print(result, flush=True)
    try:
        (state / "trial").unlink(missing_ok=True)
        machine.settle(state)
        machine.write(state / "result", f"{result}\n".encode(), 0o644)
    except OSError as exc:  # a full or worn-out card is no reason to start anew
        print(f"that could not be written down: {exc}", file=sys.stderr, flush=True)


def healthy_within(limit_s: float) -> bool:
    """Whether the daemon answers /healthz in time, and still does a little later."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if machine.is_healthy():
            time.sleep(10.0)
            return machine.is_healthy()
        time.sleep(1.0)
    return False


def main(words: list[str]) -> None:
    """`slot.py try`, `slot.py status`."""
    match words:
        case ["try"]:
            try_out()
        case ["status"]:
            current = running(Path("/proc/cmdline").read_text())
            print(f"slot {current} runs, slot {chosen(BOOT / 'config.txt')} starts next")
            if (trial := read_trial(STATE / "trial")) is not None:
                print(f"slot {trial.slot} is on trial, starts: {trial.starts}")
            print((Path("/") / ABOUT).read_text("utf-8").strip())
        case _:
            raise Trouble("slot.py try, slot.py status")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, Trouble, UnicodeDecodeError) as exc:
        sys.exit(f"mycoswarm-slot: {exc}")
