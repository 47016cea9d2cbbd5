"""Runs before the network comes up: fulfils what mycoswarm.txt on the boot partition asks for, and takes secrets out.

What was asked for is on the data partition before anything is taken out of the file: where the plug is pulled in
between, it is read once more.
"""

import os
import sys
import time
from pathlib import Path

import machine
import wish
from machine import BOOT, DATA, Trouble

NAME = "mycoswarm.txt"
PROBLEMS = Path("/run/mycoswarm/problems")
HOSTNAME = "mycoswarm"


def main() -> None:
    """Read, do, take out; then tell the kernel the name that this machine has."""
    PROBLEMS.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    problems: tuple[str, ...] = ()
    file = BOOT / NAME
    try:
        if file.is_file() and not file.is_symlink():
            problems = taken(file)
    except (OSError, Trouble) as exc:
        problems = (str(exc),)
    for each in problems:
        print(f"{NAME}: {each}", file=sys.stderr)
    PROBLEMS.write_text("".join(f"{each}\n" for each in problems))
    Path("/proc/sys/kernel/hostname").write_text(own_name())


def taken(file: Path) -> tuple[str, ...]:
    """Fulfil the file's wishes; gives its problems."""
    with file.open("rb") as opened:
        data = opened.read(wish.MAX_BYTES + 1)
    asked = wish.read(data)
    if asked.problems or not asked.taken:
        return asked.problems
    fulfil(asked)
    with machine.writable_boot():
        blotted(file, len(data))
        machine.write(file, wish.left(data, asked, time.strftime("%Y-%m-%d")), 0o644)
    print(f"{NAME}: took {', '.join(asked.taken)}")
    return ()


def blotted(file: Path, length: int) -> None:
    """Write over a file where it lies. What the card's controller keeps of it elsewhere nobody can reach from here."""
    with file.open("r+b") as opened:
        opened.write(b"#" * length)
        opened.flush()
        os.fsync(opened.fileno())


def fulfil(asked: wish.Wish) -> None:
    """Put what was asked for where the system looks for it. Each of these may be done again."""
    etc = DATA / "etc"
    if asked.hostname:
        machine.write(etc / "hostname", f"{asked.hostname}\n".encode(), 0o644)
    if asked.wifi_name:
        name, text = wish.network_file(asked)
        machine.write(DATA / "iwd" / name, text.encode())
    if asked.ssh_key:
        host_key = DATA / "ssh" / "ssh_host_ed25519_key"
        if not host_key.exists():
            machine.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(host_key))
        machine.write(DATA / "ssh" / "authorized_keys", "".join(f"{key}\n" for key in asked.ssh_key).encode())
    if asked.update_key:
        text = f"untrusted comment: from {NAME}\n{asked.update_key}\n"
        machine.write(etc / "mycoswarm" / "update.pub", text.encode(), 0o644)
    if asked.join_token:
        machine.write(etc / "join-token", asked.join_token.encode())
    if asked.advertise or asked.peers:
        lines = [f"MYCOSWARM_ADVERTISE={','.join(asked.advertise)}\n"] if asked.advertise else []
        lines += [f"MYCOSWARM_PEERS={','.join(asked.peers)}\n"] if asked.peers else []
        machine.write(etc / "environment", "".join(lines).encode())


def own_name() -> str:
    """The name that was asked for once, or the image's."""
    try:
        return (DATA / "etc" / "hostname").read_text("ascii").strip() or HOSTNAME
    except (OSError, UnicodeDecodeError):
        return HOSTNAME


if __name__ == "__main__":
    main()
