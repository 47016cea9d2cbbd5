"""Two system slots: which one starts, how another version gets into the one that does not run, and the way back.

The Pi's firmware reads the slot out of `config.txt`, whose first line is `os_prefix=a/` or `os_prefix=b/`: kernel,
initramfs, device trees and command line come from that folder, and the command line names the system partition. A
switch changes that one letter where it lies, so that whenever the plug is pulled the card holds one or the other.

`/data/slot/trial` says that a slot is on trial and counts its starts: the initramfs counts, before anything else of the
new system runs, and goes back at the fourth. Here the trial ends: the daemon answers /healthz within five minutes and
the slot stays, or the other one is started again. Covered: a system that hangs, starts over or does not answer. Not
covered: a kernel that does not get to its initramfs; then somebody writes the other letter into `config.txt`.
"""

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import machine
from machine import BOOT, DATA, Trouble

STATE = DATA / "slot"
KEY = DATA / "etc" / "mycoswarm" / "update.pub"
ABOUT = Path("etc/mycoswarm/image")
LETTERS = "ab"
FIRST_LINE = re.compile(rb"os_prefix=([ab])/\r?\n")
LETTER_AT = len(b"os_prefix=")
HEALTHY_S = 300.0
MOST_STARTS = 3
BLOCK_BYTES = 1 << 20


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


def partition(slot: str, cmdline: str) -> Path:
    """The device of a slot: the data partition is the fourth of its card, the slots the second and third.

    Raises:
        Trouble: the command line names no data partition.
    """
    match = re.search(r"(?:^|\s)mycoswarm\.data=PARTUUID=([0-9a-f]{8})-04(?:\s|$)", cmdline)
    if match is None:
        raise Trouble("the kernel's command line names no data partition")
    return Path(f"/dev/disk/by-partuuid/{match[1]}-0{2 + LETTERS.index(slot)}")


def read_about(text: str) -> dict[str, str]:
    """What an image says of itself, "name=value" on each line. Pure."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def is_older(one: str, than: str) -> bool:
    """Whether a version's numbers come before another's. Pure."""
    first, second = ([int(part) for part in re.findall(r"[0-9]+", each)] for each in (one, than))
    return first < second


def install(file: Path, *, older: bool) -> None:
    """Put a signed system into the slot that does not run, and have the next start try it.

    Raises:
        Trouble: what is wrong; the running slot stays the one that starts.
    """
    cmdline = Path("/proc/cmdline").read_text()
    fresh = other(running(cmdline))
    if not KEY.exists():
        raise Trouble(
            "nobody's signature is trusted yet: write update_key into mycoswarm.txt on the card, and start anew"
        )
    with tempfile.TemporaryDirectory(prefix="update-", dir=DATA) as name:
        staged = Path(name) / "system"
        shutil.copyfile(file, staged)  # what is checked is what is written
        shutil.copyfile(f"{file}.minisig", f"{staged}.minisig")
        said = machine.run("minisign", "-V", "-p", str(KEY), "-m", str(staged), limit_s=900).decode("utf-8", "replace")
        print(said.strip())
        written(staged, partition(fresh, cmdline))
    with mounted(partition(fresh, cmdline)) as system:
        about = read_about((system / ABOUT).read_text("utf-8"))
        mine = read_about((Path("/") / ABOUT).read_text("utf-8"))
        if about.get("kind") != mine.get("kind"):
            raise Trouble("this is no system for this appliance")
        if is_older(about.get("version", ""), mine.get("version", "")) and not older:
            raise Trouble(f"it is version {about.get('version')}, older than {mine.get('version')}: --older takes it")
        with machine.writable_boot():
            carry(system / "boot" / "slot", BOOT / fresh)
            (STATE / "result").unlink(missing_ok=True)
            machine.write(STATE / "trial", f"{fresh} 0\n".encode())
            choose(BOOT / "config.txt", fresh)
    print(f"slot {fresh} has version {about.get('version')} and is tried at the next start")


def written(file: Path, device: Path) -> None:
    """Write a file to a device and read it back.

    Raises:
        Trouble: it does not fit, or comes back otherwise.
    """
    size = file.stat().st_size
    wanted, found = hashlib.sha256(), hashlib.sha256()
    with file.open("rb") as source, device.open("r+b") as target:
        if target.seek(0, os.SEEK_END) < size:
            raise Trouble("it does not fit into a slot")
        target.seek(0)
        while part := source.read(BLOCK_BYTES):
            wanted.update(part)
            target.write(part)
        target.flush()
        os.fsync(target.fileno())
        os.posix_fadvise(target.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # the card is to answer, not the cache
        target.seek(0)
        while size > 0 and (part := target.read(min(BLOCK_BYTES, size))):
            found.update(part)
            size -= len(part)
    if found.digest() != wanted.digest():
        raise Trouble("the card gives back something else than was written: it is worn out")


@contextlib.contextmanager
def mounted(device: Path):  # type: ignore[no-untyped-def]  # an iterator of the folder
    """A slot's system, to read."""
    with tempfile.TemporaryDirectory(prefix="mycoswarm-slot-", dir="/run") as name:
        machine.run("mount", "-t", "squashfs", "-o", "ro,nosuid,nodev,noexec", str(device), name)
        try:
            yield Path(name)
        finally:
            machine.run("umount", name)


def carry(source: Path, folder: Path) -> None:
    """Put a slot's kernel and what belongs to it on the boot partition, in the place of what was there.

    Raises:
        Trouble: something came out otherwise.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for each in sorted(source.iterdir()):
        if each.name == "cmdline.txt":
            text = each.read_text("ascii").replace("@SLOT@", folder.name)
            text = text.replace("@ROOT@", f"0{2 + LETTERS.index(folder.name)}")
            machine.write(folder / each.name, text.encode(), 0o644)
            continue
        machine.write(folder / each.name, each.read_bytes(), 0o644)
        if (folder / each.name).stat().st_size != each.stat().st_size:
            raise Trouble(f"{each.name} is not whole on the boot partition")


def try_out() -> None:
    """At each start: end a trial, one way or the other."""
    current = running(Path("/proc/cmdline").read_text())
    file = STATE / "trial"
    trial = parse_trial(file.read_text("ascii")) if file.exists() else None
    due = step(current, trial, healthy=None)
    if due == "wait":
        print(f"slot {current} is on trial for {HEALTHY_S:.0f} s", flush=True)
        due = step(current, trial, healthy=healthy_within(HEALTHY_S))
    if due == "nothing":
        return
    version = read_about((Path("/") / ABOUT).read_text("utf-8")).get("version", "unknown")
    if due == "keep":
        end(f"The update to version {version} holds: slot {current}.")
    elif due == "gone":
        end(f"The update was taken back: slot {other(current)} did not start. This is version {version}.")
    else:
        with machine.writable_boot():
            choose(BOOT / "config.txt", other(current))
        end(f"The update to version {version} was taken back: it did not answer within {HEALTHY_S / 60:.0f} minutes.")
        machine.run("systemctl", "reboot")


def end(result: str) -> None:
    """The trial is over; the result is shown with the setup text."""
    machine.write(STATE / "result", f"{result}\n".encode(), 0o644)
    (STATE / "trial").unlink(missing_ok=True)
    machine.settle(STATE)
    print(result, flush=True)


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
    """`slot.py try`, `slot.py status`, `slot.py install FILE [--older]`."""
    match words:
        case ["try"]:
            try_out()
        case ["status"]:
            slot = running(Path("/proc/cmdline").read_text())
            print(f"slot {slot} runs, slot {chosen(BOOT / 'config.txt')} starts next")
            print((Path("/") / ABOUT).read_text("utf-8").strip())
        case ["install", file]:
            install(Path(file), older=False)
        case ["install", file, "--older"]:
            install(Path(file), older=True)
        case _:
            raise Trouble("mycoswarm-update FILE [--older], with FILE.minisig beside it")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, Trouble, UnicodeDecodeError) as exc:
        sys.exit(f"mycoswarm-update: {exc}")
