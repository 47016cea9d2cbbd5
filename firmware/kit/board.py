"""A Raspberry Pi's stand-in for tests: QEMU's `virt` machine, started as the Pi's firmware starts a card.

Which kernel, initramfs and command line are taken is read out of the card's own boot partition, by `os_prefix` in its
config.txt. What this is not: the Pi's firmware, its device trees, its SD controller, network and screen.
"""

import json
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MEMORY_MB = 1024
QMP_S = 120.0
SECTOR = 512


class Fault(Exception):
    """What a test found wrong, in words."""


def partition(image: Path, number: int) -> tuple[int, int]:
    """Where a partition of a raw image lies: first byte and length, by its partition table."""
    with image.open("rb") as file:
        table = file.read(SECTOR)
    first, count = struct.unpack_from("<II", table, 446 + 16 * (number - 1) + 8)
    return first * SECTOR, count * SECTOR


def take(image: Path, name: str, into: Path) -> bool:
    """Copy a file off a raw image's boot partition; False where it is not there."""
    start, _ = partition(image, 1)
    words = ["mcopy", "-n", "-o", "-i", f"{image}@@{start}", f"::{name}", str(into)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def give(image: Path, source: Path, name: str) -> None:
    """Copy a file onto a raw image's boot partition."""
    start, _ = partition(image, 1)
    subprocess.run(
        ["mcopy", "-o", "-i", f"{image}@@{start}", str(source), f"::{name}"], check=True, capture_output=True
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Board:
    """One machine. `forward`: ports of 127.0.0.1 by the guest's ports. Killed when its block ends."""

    def __init__(self, card: Path, folder: Path, forward: dict[int, int], *, kind: str = "raw") -> None:
        self.card, self.kind, self.folder = card, kind, folder
        self.log = folder / "serial.log"
        self._forward = dict(forward)
        self._process: subprocess.Popen[bytes] | None = None
        self._qmp: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pull_plug()

    def start(self, image: Path, *, state: Path | None = None) -> str:
        """Start it with the kernel that the raw `image` chooses, or go on from a state; gives the slot's letter."""
        slot = chosen_slot(image)
        for name in ("vmlinuz", "initrd.img", "cmdline.txt"):
            if not take(image, f"{slot}/{name}", self.folder / name):
                raise Fault(f"the boot partition has no {slot}/{name}")
        line = (self.folder / "cmdline.txt").read_text("ascii").strip() + " console=ttyAMA0 loglevel=6"
        way = self.folder / "qmp"
        way.unlink(missing_ok=True)
        net = "user,id=net" + "".join(
            f",hostfwd=tcp:127.0.0.1:{here}-:{there}" for there, here in self._forward.items()
        )
        words = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", str(MEMORY_MB)]
        words += ["-accel", "tcg,thread=multi,tb-size=256", "-display", "none", "-no-reboot", "-nodefaults"]
        words += ["-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd.img"), "-append", line]
        words += ["-drive", f"if=none,id=card,format={self.kind},file={self.card},cache=writeback"]
        words += [
            "-device",
            "virtio-blk-pci,drive=card",
            "-netdev",
            net,
            "-device",
            "virtio-net-pci,netdev=net,romfile=",
        ]
        words += ["-device", "virtio-rng-pci", "-serial", f"file:{self.log}", "-qmp", f"unix:{way},server=on,wait=off"]
        if state is not None:
            words += ["-incoming", f"exec:cat {state}"]
        self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=(self.folder / "qemu.log").open("wb"))
        self._connect(way)
        return slot

    def pull_plug(self) -> None:
        """SIGKILL."""
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def is_on(self) -> bool:
        """Whether the machine runs: with its reboot QEMU ends."""
        return self._process is not None and self._process.poll() is None

    def save(self, state: Path) -> None:
        """Write the whole machine's state to a file and stop it: the card is then as it is in that moment."""
        self.command("migrate", uri=f"exec:cat > {state}")
        until = time.monotonic() + QMP_S
        while (told := self.command("query-migrate").get("status")) != "completed":
            if told in ("failed", "cancelled") or time.monotonic() > until:
                raise Fault(f"the machine's state could not be written: {told}")
            time.sleep(0.2)
        self.command("quit")
        assert self._process is not None
        self._process.wait(30)

    def command(self, name: str, **arguments: Any) -> Any:
        """One command to QEMU."""
        assert self._qmp is not None
        self._qmp.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            told = self._line()
            if "return" in told:
                return told["return"]
            if "error" in told:
                raise Fault(f"QEMU: {told['error'].get('desc')}")

    def forward(self, guest_port: int) -> int:
        """Open one more port; gives the one on 127.0.0.1."""
        here = free_port()
        said = self.command(
            "human-monitor-command", **{"command-line": f"hostfwd_add tcp:127.0.0.1:{here}-:{guest_port}"}
        )
        if said.strip():
            raise Fault(f"QEMU: {said.strip()}")
        return here

    def _connect(self, way: Path) -> None:
        until = time.monotonic() + QMP_S
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(way))
                break
            except OSError as exc:
                sock.close()
                if not self.is_on() or time.monotonic() > until:
                    said = (self.folder / "qemu.log").read_text("utf-8", "replace")
                    raise Fault(f"QEMU does not start: {said[-800:]}") from exc
                time.sleep(0.05)
        sock.settimeout(QMP_S)
        self._qmp, self._rest = sock, b""
        self._line()  # its greeting
        self.command("qmp_capabilities")

    def _line(self) -> dict[str, Any]:
        assert self._qmp is not None
        while b"\n" not in self._rest:
            part = self._qmp.recv(65536)
            if not part:
                raise Fault("QEMU has gone")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told


def chosen_slot(image: Path) -> str:
    """The slot that a card's config.txt names."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "config.txt"
        match = re.match(rb"os_prefix=([ab])/", file.read_bytes()) if take(image, "config.txt", file) else None
    if match is None:
        raise Fault("config.txt on the boot partition names no slot")
    return match[1].decode()


def data_folder(card: Path, folder: Path) -> Path:
    """The data partition of a pulled card (qcow2), its journal replayed as the next start would, as a folder."""
    raw, data, files = folder / "card.raw", folder / "data.ext4", folder / "files"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(card), str(raw)], check=True, capture_output=True)
    start, length = partition(raw, 4)
    with raw.open("rb") as source, data.open("wb") as target:
        source.seek(start)
        done = 0
        while done < length and (part := source.read(1 << 22)):
            if part.count(0) == len(part):
                target.seek(len(part), 1)
            else:
                target.write(part)
            done += len(part)
        target.truncate(length)
    raw.unlink()
    checked = subprocess.run(["e2fsck", "-p", str(data)], capture_output=True, text=True, check=False)
    if checked.returncode >= 4:
        raise Fault(f"e2fsck would have asked: {checked.stdout[-800:]}")
    again = subprocess.run(["e2fsck", "-f", "-n", str(data)], capture_output=True, text=True, check=False)
    if again.returncode:
        raise Fault(f"the file system is not sound: {again.stdout[-800:]}")
    files.mkdir()
    subprocess.run(["debugfs", "-R", f"rdump /mycoswarm {files}", str(data)], check=True, capture_output=True)
    data.unlink()
    return files / "mycoswarm"
