"""A running image gets another system: what is refused, what holds, and every way back."""

import random
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

from board import Board, Fault, chosen_slot
from image import pack
from outset import BOOT_S, NAME, Card
from owner import until
from rootfs import Stop

UPDATE_S = 900.0
TRIAL_S = 300.0  # as firmware/root/usr/lib/mycoswarm/slot.py has it
STARTS = 3
CHANGED_AT = 5_000_000  # a byte somewhere in the middle
FACTS = "ls -A /data/slot; fsck.vfat -n $(findmnt -no SOURCE /boot/firmware) && mycoswarm-slot"


class Changeover:
    """One card and its updates, signed with a key that its mycoswarm.txt names."""

    def __init__(self, card: Card, system: Path) -> None:
        self.card, self.folder, self.diary = card, card.folder, card.diary
        self.keys = {name: self.folder / name for name in ("owner", "stranger")}
        self.board = Board(card.path, self.folder, card.forward)
        self.rows = 0
        if not system.exists():
            raise Fault(f"{system} is not there: firmware/build makes it")
        self.system = system

    def go(self) -> None:
        """Every step.

        Raises:
            Fault: what is wrong.
        """
        for name, place in self.keys.items():
            words = ["minisign", "-G", "-W", "-f", "-p", f"{place}.pub", "-s", f"{place}.key", "-c", name]
            subprocess.run(words, check=True, capture_output=True)
        good, bad = self._systems()
        key = Path(f"{self.keys['owner']}.pub").read_text().splitlines()[1]
        self.card.wish(f"update_key={key}")
        with self.board:
            self.card.first_start(self.board)
            self._write_data()
            self._refused(good)
            self._holds(good, "b")
            self._does_not_answer(bad)
            self._does_not_get_there(bad)
            self._broken_off(good, r"writing slot", "its system is written", 3.0)
            self._broken_off(good, r"writing the kernel", "its kernel is written", 1.0)
            self._holds(good, "a")

    def _systems(self) -> tuple[Path, Path]:
        """The image's own system with a higher version, and one higher still whose program fails."""
        tree = self.folder / "tree"
        try:
            subprocess.run(
                ["unsquashfs", "-quiet", "-no-progress", "-d", str(tree), str(self.system)],
                check=True,
                capture_output=True,
            )
            good = self._system(tree, "good", 1)
            program = tree / str((tree / "usr" / "bin" / "mycoswarm-node").readlink()).lstrip("/")
            program.write_text("#!/bin/sh\nexit 1\n")
            bad = self._system(tree, "bad", 2)
        except (Stop, subprocess.CalledProcessError) as exc:
            raise Fault(f"no system for an update could be made: {exc}") from exc
        shutil.rmtree(tree)
        return good, bad

    def _system(self, tree: Path, name: str, number: int) -> Path:
        about = tree / "etc" / "mycoswarm" / "image"
        about.write_text(re.sub(r"version=([0-9]+\.[0-9]+\.[0-9]+).*", rf"version=\1.{number}", about.read_text()))
        system = self.folder / f"{name}.system"
        pack(tree, system, 1)
        self._sign(system, "owner")
        self.diary.say(f"{system.name} is made and signed: {version(about)}, {system.stat().st_size / 1e6:.0f} MB")
        return system

    def _sign(self, system: Path, who: str) -> None:
        words = ["minisign", "-S", "-s", f"{self.keys[who]}.key", "-m", str(system), "-t", "mycoswarm-pi of a test"]
        subprocess.run(words, check=True, capture_output=True)

    def _write_data(self) -> None:
        rule = {"name": "to stay", "when": {"model": "nothing"}, "then": {"do": "run"}}
        self.card.console.ask("POST", "/api/rules", {"rule": rule, "position": 1})
        self.card.console.ask("POST", "/api/keys", {"name": "to-stay", "labels": []})
        self.diary.say(f"a rule, a key and an answer: {self.card.console.prompt(NAME)!r}")
        self._data_is_there()

    def _data_is_there(self) -> None:
        rules = {rule["name"] for rule in self.card.console.ask("GET", "/api/rules")["rules"]}
        keys = {key["name"] for key in self.card.console.ask("GET", "/api/keys")["keys"]}
        told = self.card.console.verdict()
        rows = int(told["rows"][NAME])
        if "to stay" not in rules or "to-stay" not in keys or rows < max(1, self.rows):
            raise Fault(f"data is lost: rules {rules}, keys {keys}, {rows} rows in the ledger, {self.rows} before")
        self.rows = rows
        self.card.sound(told, "rule and key are there; the ledger")

    def _refused(self, good: Path) -> None:
        """A stranger's signature, then the owner's with a changed byte; then the file is as it was."""
        self._sign(good, "stranger")
        begin = time.monotonic()
        self.card.carry(good, Path(f"{good}.minisig"))
        self.diary.say(f"an update is on /data, copied in {time.monotonic() - begin:.0f} s")
        self._is_refused(good, "signed by somebody else")
        self._sign(good, "owner")
        self.card.carry(Path(f"{good}.minisig"))
        byte = good.read_bytes()[CHANGED_AT]
        self._change(good, byte ^ 1)
        self._is_refused(good, "changed by a byte")
        self._change(good, byte)

    def _change(self, system: Path, byte: int) -> None:
        place = f"of=/data/{system.name} bs=1 seek={CHANGED_AT} conv=notrunc status=none"
        done = self.card.inside(f"printf '\\{byte:03o}' | dd {place}")
        if done.returncode:
            raise Fault(f"a byte could not be changed: {done.stderr}")

    def _is_refused(self, system: Path, how: str) -> None:
        done = self.card.inside(f"mycoswarm-update /data/{system.name}", UPDATE_S)
        if done.returncode != 1 or "refused: not signed with the key that you trust" not in done.stderr:
            raise Fault(f"an update {how} was not refused: {done.returncode} {done.stdout}{done.stderr}")
        self.diary.say(f"{how}: {done.stderr.strip()}")
        if chosen_slot(self.card.path) != "a":
            raise Fault("the other slot starts next all the same")

    def _put_in(self, system: Path) -> None:
        begin = time.monotonic()
        done = self.card.inside(f"mycoswarm-update /data/{system.name}", UPDATE_S)
        if done.returncode:
            raise Fault(f"{system.name} was not taken: {done.stderr}")
        self.diary.say(f"{done.stdout.splitlines()[-1]} ({time.monotonic() - begin:.0f} s)")

    def _put_in_and_restart(self, system: Path) -> None:
        self._put_in(system)
        self.card.inside("systemctl reboot")
        self._ends(180.0)

    def _ends(self, limit_s: float) -> None:
        """QEMU ends where the machine starts anew."""
        until(limit_s, "the machine starts anew by itself", lambda: not self.board.is_on())
        self.board.pull_plug()

    def _start(self, slot: str, result: str) -> None:
        """The slot that config.txt names must be this one, with this to say, and the data there."""
        if (found := self.card.start(self.board)) != slot:
            raise Fault(f"slot {found} was started, not {slot}")
        shown = until(TRIAL_S, f"mycoswarm-setup.txt says {result!r}", lambda: self._result(result), 2.0)
        self.diary.say(f"mycoswarm-setup.txt: {shown}")
        self._data_is_there()
        done = self.card.inside(FACTS)
        if done.returncode or f"slot {slot} runs, slot {slot} starts next" not in done.stdout:
            raise Fault(f"the card is not as it should be: {done.stdout}{done.stderr}")
        if {"trial", "staged"} & set(done.stdout.split()):
            raise Fault(f"something of the update is left: {done.stdout}")

    def _result(self, wanted: str) -> str | None:
        notes = re.findall(r"^! (.*)$", self.card.setup_text(), re.MULTILINE)
        return next((note.strip() for note in notes if re.search(wanted, note)), None)

    def _holds(self, good: Path, slot: str) -> None:
        self._put_in_and_restart(good)
        self._start(slot, rf"The update to version \S+ holds: slot {slot}\.")

    def _does_not_answer(self, bad: Path) -> None:
        """Slot b runs; its successor in slot a is given five minutes."""
        begin = time.monotonic()
        self.card.carry(bad, Path(f"{bad}.minisig"))
        self.diary.say(f"a system whose daemon fails is on /data, copied in {time.monotonic() - begin:.0f} s")
        self._put_in_and_restart(bad)
        begin = time.monotonic()
        slot = self.board.start(self.card.path)
        self._ends(TRIAL_S + BOOT_S)
        self.diary.say(f"slot {slot} did not answer; the machine started anew after {time.monotonic() - begin:.0f} s")
        self._start("b", r"was taken back: it did not answer within 5 minutes")

    def _does_not_get_there(self, bad: Path) -> None:
        """The plug is pulled in each start, once the initramfs has counted it."""
        self._put_in_and_restart(bad)
        for number in range(1, STARTS + 1):
            self._wait_for(f"slot a is on trial, start {number}")
            self.board.pull_plug()
            self.diary.say(f"slot a: the plug is pulled in start {number}")
        begin = time.monotonic()
        self._wait_for("has not proved itself: back to slot b")
        self._ends(60.0)
        self.diary.say(f"slot a: start {STARTS + 1} goes back by itself, {time.monotonic() - begin:.0f} s after power")
        self._start("b", r"was taken back: slot a has not proved itself \(starts: 3\)")

    def _wait_for(self, line: str) -> None:
        self.board.start(self.card.path)
        until(BOOT_S, f"the serial line says {line!r}", lambda: line in self.card.serial(), 0.05)

    def _broken_off(self, system: Path, stage: str, words: str, within_s: float) -> None:
        """The plug is pulled while slot a is being written."""
        command = self.card.ssh(f"mycoswarm-update /data/{system.name}")
        update = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        limit = threading.Timer(UPDATE_S, update.kill)
        limit.start()
        try:
            assert update.stdout is not None
            if not any(re.match(stage, line) for line in update.stdout):
                raise Fault(f"the update did not come as far as {stage!r}")
            wait_s = random.uniform(0.0, within_s)
            time.sleep(wait_s)
            is_through = update.poll() is not None  # without its machine, ssh ends as well
            self.board.pull_plug()
            if is_through:
                raise Fault("the update was through before the plug was pulled")
        finally:
            limit.cancel()
            update.kill()
            update.wait(30)
        self.diary.say(f"the plug is pulled while {words}, after {wait_s:.1f} s of that")
        self._start("b", r"begun and not finished: slot b stays\. Put it in again\.")
        done = self.card.inside("journalctl -b -o cat -u 'systemd-fsck@*'; ls -m /boot/firmware/a")
        for line in done.stdout.splitlines():
            print(f"             $ {line[:150]}")


def version(about: Path) -> str:
    """What a system's `about` file calls it."""
    return next(line for line in about.read_text().splitlines() if line.startswith("version="))
