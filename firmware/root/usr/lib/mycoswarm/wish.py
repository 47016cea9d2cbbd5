"""What an owner writes into mycoswarm.txt on the boot partition: read strictly, line by line. Pure.

Anybody who holds the card can write that file, and so can a PC that did not mean to: it is size-limited, no shell ever
sees it, each value has one exact form, and one bad line means that nothing of it is taken.
"""

import base64
import binascii
import ipaddress
import re
import struct
from dataclasses import dataclass

MAX_BYTES = 8192
MAX_LINES = 200
MAX_MANY = 8  # lines of a key that may be given again
SECRET = ("wifi_password", "join_token")
MANY = ("ssh_key", "advertise", "peers")
_KEYS = ("hostname", "wifi_name", "wifi_password", "ssh_key", "join_token", "update_key", "advertise", "peers")
_HOSTNAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_PRINTABLE = re.compile(r"[\x20-\x7e]{8,63}")
_PRE_SHARED = re.compile(r"[0-9a-fA-F]{64}")
_TOKEN = re.compile(r"mss1-[a-z2-7]{40,2043}")
_SSH_KINDS = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the file asks for. `taken`: which keys it has. With `problems` it asks for nothing."""

    hostname: str | None = None
    wifi_name: str | None = None
    wifi_password: str | None = None
    ssh_key: tuple[str, ...] = ()
    join_token: str | None = None
    update_key: str | None = None
    advertise: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read(data: bytes) -> Wish:
    """Read the file's bytes. Problems name a line and never a value."""
    if len(data) > MAX_BYTES:
        return Wish(problems=(f"it is longer than {MAX_BYTES} bytes",))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return Wish(problems=("it is not UTF-8 text",))
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > MAX_LINES:
        return Wish(problems=(f"it has more than {MAX_LINES} lines",))
    found: dict[str, list[str]] = {}
    problems = []
    for number, line in enumerate(lines, 1):
        line = line.strip(" \t")
        if not line or line.startswith("#"):
            continue
        name, sign, value = line.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not value and sign and name in _KEYS:
            continue  # as in the file that comes with the image
        if why := _refused(name, sign, value, found):
            problems.append(f"line {number}: {why}")
        found.setdefault(name, []).append(value)
    if ("wifi_name" in found) != ("wifi_password" in found):
        problems.append("wifi_name and wifi_password belong together")
    if problems:
        return Wish(problems=tuple(problems[:20]))
    single = {name: values[0] for name, values in found.items() if name not in MANY}
    many = {name: tuple(found.get(name, ())) for name in MANY}
    many["ssh_key"] = tuple(" ".join(key.split()[:2]) for key in many["ssh_key"])
    return Wish(**single, **many, taken=tuple(found))  # type: ignore[arg-type]  # names are checked above


def _refused(name: str, sign: str, value: str, found: dict[str, list[str]]) -> str | None:
    if not sign or name not in _KEYS:
        return f"it must be one of {', '.join(_KEYS)}, an equals sign, and a value"
    if any(not letter.isprintable() for letter in value):
        return f"{name} has a character that is not printable"
    if name in found and (name not in MANY or len(found[name]) >= MAX_MANY):
        return f"{name} is given too often"
    return None if _FORMS[name](value) else _SAID[name]


def is_ssh_key(value: str) -> bool:
    """Whether it is a public key alone: no options before it, and inside it says what it says outside."""
    words = value.split()
    if len(words) < 2 or words[0] not in _SSH_KINDS or len(value) > 4096:
        return False
    try:
        raw = base64.b64decode(words[1], validate=True)
        (length,) = struct.unpack(">I", raw[:4])
    except (binascii.Error, ValueError, struct.error):
        return False
    return raw[4 : 4 + length] == words[0].encode() and len(raw) > 4 + length


def is_update_key(value: str) -> bool:
    """Whether it is a public key of minisign: "Ed", eight bytes of id, Ed25519."""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(raw) == 42 and raw[:2] == b"Ed"


def is_address(value: str) -> bool:
    """Whether it is an IP address, without a zone."""
    try:
        return "%" not in value and bool(ipaddress.ip_address(value))
    except ValueError:
        return False


def is_peer(value: str) -> bool:
    """Whether it is an address and a port: "192.168.1.5:6927" or "[fd00::5]:6927"."""
    host, _, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return False
    return is_address(host) and re.fullmatch(r"[1-9][0-9]{0,4}", port) is not None and int(port) < 65536


_FORMS = {
    "hostname": lambda value: _HOSTNAME.fullmatch(value) is not None,
    "wifi_name": lambda value: 1 <= len(value.encode()) <= 32,
    "wifi_password": lambda value: bool(_PRINTABLE.fullmatch(value) or _PRE_SHARED.fullmatch(value)),
    "ssh_key": is_ssh_key,
    "join_token": lambda value: _TOKEN.fullmatch(value) is not None,
    "update_key": is_update_key,
    "advertise": is_address,
    "peers": is_peer,
}
_SAID = {
    "hostname": "hostname must be 1 to 32 of a-z, 0-9 and inner hyphens",
    "wifi_name": "wifi_name must be 1 to 32 bytes",
    "wifi_password": "wifi_password must be 8 to 63 plain characters",
    "ssh_key": "ssh_key must be one public key, as in id_ed25519.pub",
    "join_token": "join_token must be a whole join token, from mss1- on",
    "update_key": "update_key must be the second line of a minisign.pub",
    "advertise": "advertise must be an IP address",
    "peers": "peers must be an IP address and a port",
}


def network_file(wish: Wish) -> tuple[str, str]:
    """Name and text of the file by which iwd knows the Wi-Fi network: iwd.network(5)."""
    assert wish.wifi_name is not None and wish.wifi_password is not None
    name = wish.wifi_name
    if not re.fullmatch(r"[A-Za-z0-9 _-]+", name):
        name = "=" + name.encode().hex()
    if len(wish.wifi_password) == 64:
        secret = f"PreSharedKey={wish.wifi_password.lower()}"
    else:
        escaped = wish.wifi_password.replace("\\", "\\\\").replace(" ", "\\s")
        secret = f"Passphrase={escaped}"
    return f"{name}.psk", f"[Security]\n{secret}\n"


def left(data: bytes, wish: Wish, when: str) -> bytes:
    """The file once its wishes are fulfilled: what was said stays as comments, secrets do not."""
    said = [f"# {when}: the appliance has taken {', '.join(wish.taken)} from here."]
    for line in data.decode("utf-8-sig").replace("\r\n", "\n").split("\n"):
        name = line.partition("=")[0].strip(" \t")
        if line.strip(" \t").startswith("#") or not line.strip(" \t"):
            said.append(line)
        elif name in SECRET or not line.partition("=")[2].strip(" \t"):
            said.append(f"#{name}=")
        else:
            said.append(f"#{line}")
    return ("\n".join(said).rstrip("\n") + "\n").encode()
