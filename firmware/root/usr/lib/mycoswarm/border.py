"""Fills the sets of the packet filter: the networks this machine is in, its DNS servers, and what rules name.

It runs as root and believes nothing that it is told: an endpoint that the daemon names is a URL of which host and port
are taken, and what comes of it is IP addresses and nothing else. Whatever cannot be read opens nothing. Beside that it
keeps the wicket, in a thread of its own: a slow name server here makes nobody wait there.
"""

import contextlib
import ipaddress
import json
import os
import pwd
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import machine
import wicket
from machine import Trouble

RESOLVERS = Path("/run/systemd/resolve/resolv.conf")
ASK = "ask"  # the wicket's socket, in the folder that systemd makes for this service
NODE = "mycoswarm"
PAUSE_S = 15.0
MAX_NETWORKS = 32
MAX_ENDPOINTS = 64
MAX_ADDRESSES = 256
SETS = ("lan4", "lan6", "resolvers4", "resolvers6", "allowed4", "allowed6")  # the wicket's are not among them

Way = tuple[str, int]  # an address and a TCP port


def networks(listed: str) -> list[str]:
    """Out of what `ip -j address` prints, the networks that count as the machine's own. Pure.

    One that is wider than a home's or a company's can be (/8 of private, /16 of public addresses, /48) is none: a DHCP
    server must not be able to open the internet.
    """
    found = set()
    for link in json.loads(listed):
        if link.get("link_type") == "loopback":
            continue
        for one in link.get("addr_info", ()):
            network = ipaddress.ip_interface(f"{one['local']}/{one['prefixlen']}").network
            if network.is_link_local or network.is_loopback:
                continue
            widest = 48 if network.version == 6 else 8 if network.is_private else 16
            if network.prefixlen >= widest:
                found.add(network)
    return [str(each) for each in sorted(found, key=str)[:MAX_NETWORKS]]


def resolvers(text: str) -> list[str]:
    """The DNS servers out of a resolv.conf. Pure."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                address = ipaddress.ip_address(words[1].partition("%")[0])
                if not address.is_loopback and not address.is_link_local and not address.is_multicast:
                    found.append(str(address))
    return found[:8]


def places(told: Any) -> list[Way]:
    """Host and port of each endpoint that a rule names, out of the daemon's answer. Pure."""
    found = []
    entries = told.get("endpoints", ()) if isinstance(told, dict) else ()
    for one in entries if isinstance(entries, list) else ():
        if not isinstance(one, dict) or not one.get("rules") or not isinstance(one.get("url"), str):
            continue
        with contextlib.suppress(ValueError):
            parts = urlsplit(one["url"])
            port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
            if parts.scheme in ("https", "http") and parts.hostname and 0 < port < 65536:
                found.append((parts.hostname, port))
    return sorted(set(found))[:MAX_ENDPOINTS]


def looked_up(ways: Iterable[Way]) -> list[Way]:
    """The addresses of hosts now. A host that has none opens nothing."""
    found = set()
    for host, port in ways:
        with contextlib.suppress(OSError, UnicodeError, ValueError):
            for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                address = ipaddress.ip_address(str(entry[4][0]).partition("%")[0])
                if not (address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified):
                    found.add((str(address), port))
    return sorted(found)[:MAX_ADDRESSES]


def script(own: Iterable[str], servers: Iterable[str], allowed: Iterable[Way]) -> str:
    """What nft is given: these sets emptied and filled anew, in one transaction. Pure."""
    elements: dict[str, list[str]] = {name: [] for name in SETS}
    for text in own:
        network = ipaddress.ip_network(text)
        elements[f"lan{network.version}"].append(str(network))
    for text in servers:
        server = ipaddress.ip_address(text)
        elements[f"resolvers{server.version}"].append(str(server))
    for text, port in allowed:
        address = ipaddress.ip_address(text)
        elements[f"allowed{address.version}"].append(f"{address} . {int(port)}")
    elements["lan4"].append("169.254.0.0/16")  # as firmware/nftables.conf has them
    elements["lan6"].append("fe80::/10")
    lines = []
    for name, found in elements.items():
        lines.append(f"flush set inet mycoswarm {name}")
        if found:
            lines.append(f"add element inet mycoswarm {name} {{ {', '.join(sorted(set(found)))} }}")
    return "\n".join(lines) + "\n"


def now() -> str:
    """The script for how things are."""
    listed = machine.run("ip", "-j", "address").decode()
    try:
        servers = resolvers(RESOLVERS.read_text("utf-8", "replace"))
    except OSError:
        servers = []
    try:
        told = machine.ask("GET", "/api/endpoints")
    except Trouble:
        told = {}  # the daemon is not there, or is a worker: no rules of its own
    return script(networks(listed), servers, looked_up(places(told)))


def keep_wicket(folder: Path) -> threading.Thread:
    """Listen in that folder for what the node asks for. The unit's group is the node's, so its daemon can connect."""
    try:
        node_uid = pwd.getpwnam(NODE).pw_uid
    except KeyError:
        node_uid = None  # root may ask, and nobody else
    kept = wicket.Wicket(wicket.listening(folder / ASK), lambda peer: wicket.may_ask(peer, node_uid, machine.OWNER))
    keeping = threading.Thread(target=kept.serve, daemon=True)
    keeping.start()
    return keeping


def main() -> None:
    """Fill, and fill anew when an address changes, and every few seconds for what rules and name servers say."""
    keeping = keep_wicket(Path(os.environ["RUNTIME_DIRECTORY"]))
    with subprocess.Popen(["ip", "-o", "monitor", "address"], stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        before = ""
        while keeping.is_alive():  # systemd starts this anew when it ends
            try:
                wanted = now()
                if wanted != before:
                    machine.run("nft", "-f", "-", given=wanted.encode())
                    print("the packet filter's sets are filled anew", flush=True)
                    before = wanted
            except (ValueError, KeyError, TypeError, Trouble) as exc:
                print(exc, file=sys.stderr, flush=True)
            if select.select([watching.stdout], [], [], PAUSE_S)[0] and not os.read(watching.stdout.fileno(), 65536):
                sys.exit("`ip monitor` ended")
        watching.kill()
    sys.exit("the wicket is not kept any more")


if __name__ == "__main__":
    main()
