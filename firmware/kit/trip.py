"""The built image in an emulated machine: firmware/boot-test. Here: its part with twenty plugs pulled in mid-write."""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from board import Board, Fault, data_folder, free_port, take
from changeover import Changeover
from outset import BOOT_S, Card, Diary
from owner import Console, Daemon, adopt, copy, until, verdict_of, worker

FIRMWARE = Path(__file__).resolve().parents[1]
IMAGE = FIRMWARE / "out" / "mycoswarm-pi-arm64.img"
PARTS = ("pulls", "update")
LOOK = """
mycoswarm-slot; touch /usr/x 2>/dev/null || echo read-only: yes; hostname; ls -m /data/iwd /data/etc
findmnt -rn -o TARGET,FSTYPE,OPTIONS /; findmnt -rn -o TARGET,FSTYPE,SIZE,OPTIONS /data
findmnt -rn -o TARGET,OPTIONS /boot/firmware; swapon --show --noheadings
nft list set inet mycoswarm lan4 | grep elements; systemctl is-active mycoswarm mycoswarm-border nftables
systemctl --failed --no-legend; systemd-analyze time
systemctl show -P MemoryCurrent mycoswarm mycoswarm-border mycoswarm-welcome; grep -E 'MemTotal|MemAvail' /proc/meminfo
"""
NOBODY = "203.0.113.7"  # RFC 5737: for documentation, on no network
WICKET = """
stat -c '%U:%G %a %n' /run/mycoswarm-border /run/mycoswarm-border/ask
journalctl -u mycoswarm-border -o cat --no-pager | grep 'let through'
nft list set inet mycoswarm asked4 | grep elements
"""


@dataclass(slots=True)
class Promise:
    """What the appliance has confirmed before its plug was pulled, and therefore must still know."""

    rules: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    receipts: int = 0
    faults: list[str] = field(default_factory=list)


def main() -> None:
    """Its parts; status 1 with the first thing that is wrong."""
    parser = argparse.ArgumentParser(prog="firmware/boot-test", description=__doc__)
    parser.add_argument("image", nargs="?", type=Path, default=IMAGE)
    parser.add_argument("--only", choices=PARTS, help="One part: pulled plugs, or an update and every way back.")
    parser.add_argument("--pulls", type=int, default=20, metavar="N", help="How often the plug is pulled.")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="Work in FOLDER and leave everything there.")
    given = parser.parse_args()
    if not given.image.exists():
        sys.exit(f"firmware/boot-test: {given.image} is not there: firmware/build makes it")
    if given.only != "pulls" and os.geteuid() != 0:
        sys.exit("firmware/boot-test: an update's system has files of many owners: run it as root, or --only pulls")
    diary = Diary()
    for part in PARTS if given.only is None else (given.only,):
        with tempfile.TemporaryDirectory(prefix="mycoswarm-boot-", dir=FIRMWARE / "out") as name:
            folder = (given.keep or Path(name)) / part
            folder.mkdir(parents=True)
            try:
                card = Card(given.image, folder, diary)
                if part == "pulls":
                    Trip(card).go(given.pulls)
                else:
                    Changeover(card, given.image.with_suffix(".system")).go()
            except Fault as fault:
                diary.say(f"WRONG: {fault}")
                log = folder / "serial.log"
                print(log.read_text("utf-8", "replace")[-3000:] if log.exists() else "", file=sys.stderr)
                sys.exit(1)
    diary.say("all is well")


class Trip:
    """One card, whose data must outlast each pulled plug."""

    def __init__(self, card: Card) -> None:
        self.card, self.folder, self.diary, self.console = card, card.folder, card.diary, card.console
        self.worker_port = free_port()

    def go(self, pulls: int) -> None:
        """Every step.

        Raises:
            Fault: what is wrong.
        """
        self.card.wish("wifi_name=Nobody's", "wifi_password=correct horse")
        base = self.folder / "worker"
        member = None
        with Board(self.card.path, self.folder, self.card.forward) as board:
            try:
                self.card.first_start(board)
                self._look_around()
                member = worker(base, self.worker_port)
                adopt(self.console, member, board.forward)
                self.diary.say("a worker on this machine has joined and is ready")
                self.diary.say(f"it answers: {self.console.prompt('worker')!r}")
                self.card.sound(self.console.verdict(), "the ledger")
                state = self.folder / "state"
                board.save(state)
                self.diary.say(f"the running machine is kept: {state.stat().st_size / 1e6:.0f} MB")
            finally:
                if member is not None:
                    member.stop()
        for number in range(1, pulls + 1):
            self._pull(number, state, base, is_last=number == pulls)

    def _look_around(self) -> None:
        """What the start has said, what is left of mycoswarm.txt, and the machine from inside."""
        for line in self.card.start_lines():
            print(f"             > {line}")
        left = self.folder / "left.txt"
        take(self.card.path, "mycoswarm.txt", left)
        if "correct horse" in left.read_text() or "has taken hostname" not in left.read_text():
            raise Fault("mycoswarm.txt still has what was to be taken out of it")
        self.diary.say("mycoswarm.txt was read, and its password taken out")
        done = self.card.inside(LOOK)
        for line in done.stdout.splitlines():
            print(f"             $ {line[:150]}")
        if done.returncode or "read-only: yes" not in done.stdout or "10.0.2.0/24" not in done.stdout:
            raise Fault(f"the machine is not as it should be inside: {done.stderr[-400:]}")
        self._reach_out()

    def _reach_out(self) -> None:
        """An endpoint that nobody answers for is checked: on its way out it passes the packet filter's wicket."""
        try:
            self.console.ask("POST", "/api/endpoints", {"name": "nobody", "url": f"https://{NOBODY}:8443/v1"})
        except Fault as fault:
            said = str(fault)
        else:
            raise Fault(f"an endpoint at {NOBODY} was registered, and nobody is there")
        done = self.card.inside(WICKET)
        for line in done.stdout.splitlines():
            print(f"             $ {line[:150]}")
        if f"for endpoint: {NOBODY} port 8443" not in done.stdout or "packet filter" in said:
            raise Fault(f"the packet filter was not opened for an endpoint's check: {said} {done.stderr[-400:]}")
        self.diary.say("the packet filter was opened for the check of an endpoint, and for that alone")

    def _pull(self, number: int, state: Path, base: Path, *, is_last: bool) -> None:
        folder = self.folder / f"pull-{number}"
        folder.mkdir()
        card = folder / "card.qcow2"
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(self.card.path), "-F", "raw", str(card)]
        subprocess.run(words, check=True)
        member = worker(copy(base, folder / "worker"), self.worker_port)
        promise, is_over = Promise(), threading.Event()
        try:
            with Board(card, folder, self.card.forward, kind="qcow2") as board:
                board.start(self.card.path, state=state)
                until(60.0, "the kept machine goes on", self.console.is_healthy, 0.1)
                hands = [
                    threading.Thread(target=work, args=(self.console, promise, is_over))
                    for work in (write_rules, write_keys, write_ledger)
                ]
                for hand in hands:
                    hand.start()
                until(120.0, "something is confirmed", lambda: promise.rules and promise.keys, 0.1)
                time.sleep(random.uniform(0.0, 5.0))  # in mid-write, wherever that is
                board.pull_plug()
                is_over.set()
                for hand in hands:
                    hand.join(200)
            if promise.faults:
                raise Fault("; ".join(promise.faults))
            self._look(number, card, folder, promise)
            if is_last:
                self._start_again(card, folder, promise)
        finally:
            member.stop()
        shutil.rmtree(folder)

    def _look(self, number: int, card: Path, folder: Path, promise: Promise) -> None:
        """The pulled card's data under the checkout's daemon: the ledger verified, what was confirmed there."""
        daemon = Daemon(data_folder(card, folder), "--peer", "127.0.0.1:0", "--peers", f"127.0.0.1:{self.worker_port}")
        try:
            events = [json.loads(line) for line in daemon.call.stream("POST", "/api/ledger/verify", {})]
            rules = {rule["name"] for rule in daemon.call.ask("GET", "/api/rules")["rules"]}
            keys = {key["name"] for key in daemon.call.ask("GET", "/api/keys")["keys"]}
        finally:
            daemon.stop()
        self._kept(promise, rules, keys)
        told = verdict_of(events)
        kept = f"{len(promise.rules)} rules, {len(promise.keys)} keys, {promise.receipts} answers were confirmed"
        self.card.sound(told, f"pull {number}: {kept} and are there; the ledger")

    def _start_again(self, card: Path, folder: Path, promise: Promise) -> None:
        with Board(card, folder, self.card.forward, kind="qcow2") as board:
            begin = time.monotonic()
            board.start(self.card.path)
            until(BOOT_S, "/healthz answers after a pulled plug", self.console.is_healthy)
            self.diary.say(f"the last card, started anew: /healthz answers after {time.monotonic() - begin:.0f} s")
            rules = {rule["name"] for rule in self.console.ask("GET", "/api/rules")["rules"]}
            keys = {key["name"] for key in self.console.ask("GET", "/api/keys")["keys"]}
            self._kept(promise, rules, keys)
            text = until(180.0, "the worker answers again", lambda: self.console.prompt("worker"), 3.0)
            self.diary.say(f"the worker answers again: {text!r}")
            self.card.sound(self.console.verdict(), "the ledger, verified by the appliance itself")

    def _kept(self, promise: Promise, rules: set[str], keys: set[str]) -> None:
        lost = (promise.rules - rules) | (promise.keys - keys)
        if lost:
            raise Fault(f"confirmed, and lost with the plug: {', '.join(sorted(lost))}")


def _repeat(is_over: threading.Event, promise: Promise, act: Callable[[int], None]) -> None:
    number = 0
    while not is_over.is_set():
        number += 1
        try:
            act(number)
        except (OSError, HTTPException, Fault) as exc:
            if not is_over.wait(2.0):  # with the plug everything breaks off
                promise.faults.append(f"before the plug was pulled: {exc!r}")
            return


def write_rules(console: Console, promise: Promise, is_over: threading.Event) -> None:
    """Add rules for as long as it lasts."""

    def act(number: int) -> None:
        rule = {"name": f"rule {number}", "when": {"model": f"nothing-{number}"}, "then": {"do": "run"}}
        console.ask("POST", "/api/rules", {"rule": rule, "position": 1})
        promise.rules.add(f"rule {number}")

    _repeat(is_over, promise, act)


def write_keys(console: Console, promise: Promise, is_over: threading.Event) -> None:
    """Make keys for as long as it lasts."""

    def act(number: int) -> None:
        console.ask("POST", "/api/keys", {"name": f"key-{number}", "labels": []})
        promise.keys.add(f"key-{number}")

    _repeat(is_over, promise, act)


def write_ledger(console: Console, promise: Promise, is_over: threading.Event) -> None:
    """Have the worker answer for as long as it lasts."""

    def act(number: int) -> None:
        console.prompt("worker")
        promise.receipts += 1

    _repeat(is_over, promise, act)


if __name__ == "__main__":
    main()
