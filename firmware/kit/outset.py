"""A card at its outset: wished for as an owner with a PC would, started the first time, set up, looked into by ssh."""

import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from board import Board, Fault, free_port, give, take
from owner import Console, until

SIZE = "4G"  # so that the data partition has something to grow into
CONSOLE = 6926
BOOT_S = 900.0  # emulated, beside other work
NAME = "pilz"
TOLD = re.compile(
    r"Linux version|\] mycoswarm:|Mounted .*mycoswarm|Finished mycoswarm|Started mycoswarm|nftables|"
    r"Activated swap|Reached target (multi-user|network-online)"
)
STEERING = re.compile(r"\x1b\[[0-9;:]*[A-Za-z]|\r")  # a terminal's colours


@dataclass(slots=True)
class Diary:
    """Prints steps with the seconds since the beginning."""

    begin: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """One line."""
        print(f"{time.monotonic() - self.begin:7.1f} s  {text}", flush=True)


class Card:
    """One card, its owner's keys, and the ports at which the machine that it is in is reached."""

    def __init__(self, image: Path, folder: Path, diary: Diary) -> None:
        self.folder, self.diary = folder, diary
        self.path = folder / "card.img"
        subprocess.run(["cp", "--sparse=always", str(image), str(self.path)], check=True)
        subprocess.run(["truncate", "-s", SIZE, str(self.path)], check=True)
        self._ssh_port = free_port()
        self.console = Console(free_port())
        self.forward = {CONSOLE: self.console.port, 6927: free_port(), 22: self._ssh_port}
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(folder / "key")]
        subprocess.run(words, check=True)

    def wish(self, *lines: str) -> None:
        """mycoswarm.txt as an owner with a PC would write it, with an SSH key."""
        wish = self.folder / "wish.txt"
        key = f"ssh_key={(self.folder / 'key.pub').read_text().strip()}"
        wish.write_text("\r\n".join(("# a test", f"hostname = {NAME}", *lines, key, "")))
        give(self.path, wish, "mycoswarm.txt")

    def first_start(self, board: Board) -> None:
        """Start it, and set it up with the code that it shows.

        Raises:
            Fault: it does not come that far.
        """
        self.start(board)
        found = until(BOOT_S, "mycoswarm-setup.txt has a setup code", self._code)
        for line in self.setup_text().splitlines():
            print(f"             | {line}")
        if f"http://{NAME}.local:{CONSOLE}/" not in self.setup_text():
            raise Fault("the setup text does not have the host name of mycoswarm.txt")
        self.console.set_up(found)
        self.diary.say("signed in with the setup code")
        until(60.0, "the setup code is gone from the card", lambda: self._code() is None)
        self.diary.say("the setup code is gone from the card")

    def start(self, board: Board) -> str:
        """Start what its config.txt names, up to an answer of /healthz; gives the slot's letter.

        Raises:
            Fault: it does not answer.
        """
        begin = time.monotonic()
        slot = board.start(self.path)
        until(BOOT_S, "/healthz answers", self.console.is_healthy)
        self.diary.say(f"slot {slot}: /healthz answers {time.monotonic() - begin:.0f} s after power")
        return slot

    def setup_text(self) -> str:
        """What mycoswarm-setup.txt says now."""
        text = self.folder / "setup.txt"
        return text.read_text() if take(self.path, "mycoswarm-setup.txt", text) else ""

    def serial(self) -> str:
        """What this start has said on the serial line so far."""
        log = self.folder / "serial.log"
        return STEERING.sub("", log.read_text("utf-8", "replace")) if log.exists() else ""

    def start_lines(self) -> list[str]:
        """Of that what shows how a start goes."""
        lines = self.serial().splitlines()
        return [line.strip()[:150] for line in lines if TOLD.search(line) and " running (" not in line][:30]

    def inside(self, command: str, limit_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command on it by ssh."""
        return self._run(self.ssh(command), limit_s)

    def ssh(self, command: str) -> list[str]:
        """The words for that."""
        return ["ssh", *self._options(), "-p", str(self._ssh_port), "root@127.0.0.1", command]

    def carry(self, *files: Path) -> None:
        """Copy files to /data.

        Raises:
            Fault: that does not work.
        """
        words = ["scp", *self._options(), "-P", str(self._ssh_port), *map(str, files), "root@127.0.0.1:/data/"]
        done = self._run(words, 900.0)
        if done.returncode:
            raise Fault(f"files could not be copied to it: {done.stderr[-400:]}")

    def sound(self, told: dict[str, Any], what: str) -> None:
        """Say that a ledger is sound.

        Raises:
            Fault: it is not.
        """
        if not told["is_sound"]:
            raise Fault(f"{what} is not sound: {[each for each in told['events'] if each.get('event') != 'progress']}")
        rows = ", ".join(f"{count} rows of {node}" for node, count in told["rows"].items())
        slow = f"; too slow to answer: {', '.join(told['not_checked'])}" if told["not_checked"] else ""
        self.diary.say(f"{what} is sound: {rows}{slow}")

    def _code(self) -> str | None:
        match = re.search(r"Setup code:\s+([A-Z2-9-]{14})", self.setup_text())
        return match[1] if match else None

    def _options(self) -> list[str]:
        told = ("BatchMode=yes", "LogLevel=ERROR", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
        return ["-i", str(self.folder / "key"), *(f"-o{each}" for each in (*told, "ConnectTimeout=60"))]

    def _run(self, words: list[str], limit_s: float) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired as exc:
            raise Fault(f"{words[0]} was not done within {limit_s:.0f} s: {words[-1][:100]}") from exc
