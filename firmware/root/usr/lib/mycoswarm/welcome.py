"""Runs once the daemon answers: makes it a coordinator or has it join, and shows how to get in, on screen and card.

The setup code is shown only until somebody has used it. It stands in `mycoswarm-setup.txt` on the partition that any PC
can read: who holds the card could change everything on it anyway.
"""

import contextlib
import ipaddress
import json
import socket
import sys
import time
from pathlib import Path

import machine
from machine import BOOT, CONSOLE_PORT, DATA, Trouble

NAME = "mycoswarm-setup.txt"
SCREEN = Path("/dev/tty1")
KEPT = Path("/run/mycoswarm/setup-code")
PROBLEMS = Path("/run/mycoswarm/problems")
RESULT = DATA / "slot" / "result"
PAUSE_S = 15.0
READY_S = 900.0
RENEW_S = 6 * 86400.0  # the daemon's codes hold for seven days


def text(*, name: str, addresses: list[str], code: str | None, role: str, notes: list[str]) -> str:
    """What is shown. Pure."""
    lines = ["mycoSwarm", "", f"Dashboard:   http://{name}.local:{CONSOLE_PORT}/"]
    lines += [f"             http://{each}:{CONSOLE_PORT}/" for each in addresses]
    if not addresses:
        lines += [
            "             There is no network yet: plug in a cable, or write Wi-Fi into mycoswarm.txt on the card."
        ]
    if code is not None:
        lines += ["", f"Setup code:  {code}", "             It opens the dashboard once, and gives you an owner's key."]
    elif role == "unclaimed":
        lines += ["", "Something keeps it from its work:"]
    elif role == "worker":
        lines += ["", "A worker of its swarm: look at the coordinator's dashboard."]
    else:
        lines += ["", "It is set up. Sign in with your key."]
    if notes:
        lines += ["", *(f"! {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def shown(told: str) -> str:
    """For a terminal: cleared, and nothing in it that steers one. Pure."""
    return "\033[2J\033[H\n" + "".join(sign for sign in told if sign.isprintable() or sign == "\n").replace(
        "\n", "\r\n"
    )


def own_addresses(listed: str) -> list[str]:
    """This machine's addresses that others may reach, out of what `ip -j address` prints. Pure."""
    found = []
    for link in json.loads(listed):
        for one in link.get("addr_info", ()):
            if one.get("scope") == "global" and not one.get("temporary"):
                address = ipaddress.ip_address(one["local"])
                found.append(f"[{address}]" if address.version == 6 else str(address))
    return sorted(set(found), key=lambda each: (each.startswith("["), each))


def lead() -> str:
    """Take up the role that this machine should have, where it has none; gives the role.

    Raises:
        Trouble: the daemon says no.
    """
    token = DATA / "etc" / "join-token"
    role = str(machine.ask("GET", "/api/node")["role"])
    if role != "unclaimed":
        token.unlink(missing_ok=True)
        return role
    if token.exists():
        machine.ask("POST", "/api/join", {"token": token.read_text("ascii")})
        token.unlink()
    else:
        machine.ask("POST", "/api/init", {"name": None})
    until = time.monotonic() + 120.0
    while time.monotonic() < until:
        time.sleep(0.5)
        with contextlib.suppress(Trouble):  # it is being built anew
            role = str(machine.ask("GET", "/api/node")["role"])
            if role != "unclaimed":
                return role
    raise Trouble("the daemon has not taken up its role")


def code_now() -> str | None:
    """The setup code, while there is no owner's key. It is made anew at each start, and kept where root alone reads.

    Raises:
        Trouble: the daemon says no.
    """
    if any(key["is_owner"] for key in machine.ask("GET", "/api/keys")["keys"]):
        KEPT.unlink(missing_ok=True)
        return None
    if not KEPT.exists() or time.time() - KEPT.stat().st_mtime > RENEW_S:
        machine.write(KEPT, str(machine.ask("POST", "/api/setup-code", {})["setup_code"]).encode())
    return KEPT.read_text("ascii")


def notes() -> list[str]:
    """What the owner should know: trouble with mycoswarm.txt, and how the last update went."""
    found = []
    for file, before in ((PROBLEMS, "mycoswarm.txt: "), (RESULT, "")):
        with contextlib.suppress(OSError):
            found += [before + line for line in file.read_text("utf-8", "replace")[:4000].splitlines()]
    return found


def put(told: str) -> None:
    """Show it, and write it to the card where it differs from what is there.

    Raises:
        Trouble: the boot partition is not there.
    """
    with contextlib.suppress(OSError), SCREEN.open("w") as screen:
        screen.write(shown(told))
    file = BOOT / NAME
    data = told.replace("\n", "\r\n").encode()  # for whatever PC the card is put into
    if not file.exists() or file.read_bytes() != data:
        with machine.writable_boot():
            machine.write(file, data, 0o644)


def main() -> None:
    """Show, and go on showing what changes."""
    until, before = time.monotonic() + READY_S, ""
    while not machine.is_healthy():
        if time.monotonic() > until:
            sys.exit("the daemon does not answer")
        time.sleep(1.0)
    while True:
        role, code, found = "unclaimed", None, notes()
        try:
            role = lead()
            code = code_now() if role == "coordinator" else None
        except (OSError, Trouble) as exc:
            found.append(str(exc))
        try:
            addresses = own_addresses(machine.run("ip", "-j", "address").decode())
            told = text(name=socket.gethostname(), addresses=addresses, code=code, role=role, notes=found)
            if told != before:
                put(told)
                print(f"{NAME} is written: {role}, {'with a setup code' if code else 'without a code'}", flush=True)
                before = told
        except (OSError, Trouble) as exc:
            print(exc, file=sys.stderr, flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
