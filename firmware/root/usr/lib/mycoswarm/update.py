"""Another version into the slot that does not run: a file that its owner has signed. Nothing is fetched.

While that slot is written over, config.txt names the running one and there is no trial, so that a pulled plug ends an
update and nothing else. What it leaves behind is cleared away: the copy on /data at the next start (tmpfiles.d); lost
clusters of the boot partition become files by fsck before it is mounted (fstab), and are removed by the next update.
What comes after an update is slot.py's.
"""

import contextlib
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import machine
import slot
from machine import BOOT, DATA, Trouble
from slot import LETTERS, STATE

STAGE = STATE / "staged"
LOCK = Path("/run/mycoswarm-update.lock")
KEY = DATA / "etc" / "mycoswarm" / "update.pub"
BLOCK_BYTES = 1 << 20
SPARE_BYTES = 64 << 20  # of /data, for what the node writes meanwhile
BROKEN_OFF = "An update was begun and not finished: slot {slot} stays. Put it in again."


def install(file: Path, *, older: bool) -> None:
    """Put a signed system into the slot that does not run, and have the next start try it.

    Raises:
        Trouble: what is wrong; the running slot stays the one that starts.
    """
    cmdline = Path("/proc/cmdline").read_text()
    current = slot.running(cmdline)
    fresh = slot.other(current)
    device = partition(fresh, cmdline)
    if not KEY.exists():
        raise Trouble(
            "nobody's signature is trusted yet: write update_key into mycoswarm.txt on the card, and start anew"
        )
    with machine.alone(LOCK, 0.0, "another update is under way"):
        if (trial := slot.read_trial(STATE / "trial")) is not None and trial.slot == current:
            raise Trouble(f"slot {current} is on trial itself: wait until {STATE / 'result'} says that it holds")
        with staged(file, STAGE) as copy:
            print(verified(copy, KEY), flush=True)
            with mounted(copy, "loop") as system:
                version = accepted(slot.about(system), slot.about(Path("/")), older=older)
            with machine.writable_boot():
                withdraw(BOOT / "config.txt", STATE / "trial", current)
            machine.write(STATE / "result", f"{BROKEN_OFF.format(slot=current)}\n".encode(), 0o644)
            print(f"writing slot {fresh}", flush=True)
            written(copy, device)
        with mounted(device) as system, machine.writable_boot():
            print(f"writing the kernel of slot {fresh}", flush=True)
            carry(system / "boot" / "slot", BOOT / fresh)
            machine.write(STATE / "trial", f"{fresh} 0\n".encode())
            slot.choose(BOOT / "config.txt", fresh)
            (STATE / "result").unlink(missing_ok=True)
    print(f"slot {fresh} has version {version} and is tried at the next start: systemctl reboot")


def partition(letter: str, cmdline: str) -> Path:
    """The device of a slot: the data partition is the fourth of its card, the slots the second and third.

    Raises:
        Trouble: the command line names no data partition.
    """
    match = re.search(r"(?:^|\s)mycoswarm\.data=PARTUUID=([0-9a-f]{8})-04(?:\s|$)", cmdline)
    if match is None:
        raise Trouble("the kernel's command line names no data partition")
    return Path(f"/dev/disk/by-partuuid/{match[1]}-0{2 + LETTERS.index(letter)}")


def is_older(one: str, than: str) -> bool:
    """Whether a version's numbers come before another's. Pure."""
    first, second = ([int(part) for part in re.findall(r"[0-9]+", each)] for each in (one, than))
    return first < second


def accepted(new: dict[str, str], mine: dict[str, str], *, older: bool) -> str:
    """The version of a system that may be put in beside this one. Pure.

    Raises:
        Trouble: it may not.
    """
    version, here = new.get("version", ""), mine.get("version", "")
    if new.get("kind") != mine.get("kind"):
        raise Trouble("this is no system for this appliance")
    if is_older(version, here) and not older:
        raise Trouble(f"it is version {version}, older than {here}: --older takes it")
    return version


@contextlib.contextmanager
def staged(file: Path, folder: Path) -> Iterator[Path]:
    """A copy of the file and its signature: what is checked is what is written.

    Raises:
        Trouble: one of them is missing, or there is no room for a copy.
    """
    signature = Path(f"{file}.minisig")
    for each in (file, signature):
        if not each.is_file():
            raise Trouble(f"{each} is not there")
    shutil.rmtree(folder, ignore_errors=True)
    needed, free = file.stat().st_size + SPARE_BYTES, shutil.disk_usage(folder.parent).free
    if free < needed:
        raise Trouble(
            f"{folder.parent} has {free >> 20} MiB free, and {needed >> 20} are needed for the while: remove something"
        )
    folder.mkdir(mode=0o700)
    try:
        copy = folder / "system"
        shutil.copyfile(file, copy)
        shutil.copyfile(signature, f"{copy}.minisig")
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def verified(file: Path, key: Path) -> str:
    """What minisign says of a file whose signature beside it is by the owner's key.

    Raises:
        Trouble: it is not.
    """
    try:
        said = machine.run("minisign", "-V", "-p", str(key), "-m", str(file), limit_s=900)
    except Trouble as exc:
        told = " ".join(str(exc).replace(str(file), file.name).split())
        raise Trouble(f"refused: not signed with the key that you trust, or changed since ({told})") from exc
    return said.decode("utf-8", "replace").strip()


def withdraw(config: Path, trial: Path, current: str) -> None:
    """Have the running slot start next, before the other one is written over: an update that nobody has tried yet."""
    slot.choose(config, current)
    trial.unlink(missing_ok=True)
    machine.settle(trial.parent)


def written(file: Path, device: Path) -> None:
    """Write a file to a device and read it back.

    Raises:
        Trouble: it is mounted, does not fit, or comes back otherwise.
    """
    size = file.stat().st_size
    wanted, found = hashlib.sha256(), hashlib.sha256()
    try:
        number = os.open(device, os.O_RDWR | os.O_EXCL)  # exclusive: of a device, that nothing has it mounted
    except OSError as exc:
        raise Trouble(f"the slot cannot be written: {exc.strerror}") from exc
    with file.open("rb") as source, os.fdopen(number, "r+b") as target:
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
def mounted(source: Path, *options: str) -> Iterator[Path]:
    """A system's files, to read."""
    with tempfile.TemporaryDirectory(prefix="mycoswarm-slot-", dir="/run") as name:
        machine.run("mount", "-t", "squashfs", "-o", ",".join(("ro,nosuid,nodev,noexec", *options)), str(source), name)
        try:
            yield Path(name)
        finally:
            machine.run("umount", name)


def carry(source: Path, folder: Path) -> None:
    """Put a slot's kernel and what belongs to it on the boot partition, in the place of what was there. All of it is on
    the card, read back, when this ends: a kernel that is not whole could not be taken back.

    Raises:
        Trouble: there is no room, or something came out otherwise.
    """
    for rest in folder.parent.iterdir():  # what fsck has saved of an update whose plug was pulled
        if re.fullmatch(r"fsck[0-9]{4}\.rec", rest.name, re.IGNORECASE):
            rest.unlink()
    files = sorted(each for each in source.iterdir() if each.is_file())
    needed = sum(each.stat().st_size for each in files)
    old = sum(each.stat().st_size for each in folder.iterdir()) if folder.is_dir() else 0
    if needed > shutil.disk_usage(folder.parent).free + old:
        raise Trouble(f"the boot partition has no room for {needed >> 20} MiB of kernel and what belongs to it")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir()
    for each in files:
        data = each.read_bytes()
        if each.name == "cmdline.txt":
            text = data.decode("ascii").replace("@SLOT@", folder.name)
            data = text.replace("@ROOT@", f"0{2 + LETTERS.index(folder.name)}").encode()
        machine.write(folder / each.name, data, 0o644)
        if machine.reread(folder / each.name) != data:
            raise Trouble(f"{each.name} is not whole on the boot partition")
    machine.settle(folder.parent)


def main(words: list[str]) -> None:
    """`update.py FILE [--older]`."""
    match words:
        case [file]:
            install(Path(file), older=False)
        case [file, "--older"]:
            install(Path(file), older=True)
        case _:
            raise Trouble("mycoswarm-update FILE [--older], with FILE.minisig beside it")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (OSError, Trouble, UnicodeDecodeError) as exc:
        sys.exit(f"mycoswarm-update: {exc}")
