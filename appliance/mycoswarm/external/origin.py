"""Where a model file is pulled from, as its owner names it: an https URL, or a file of a repository on the hub.

https://models.example/tiny.gguf              the URL of a GGUF file
hf:OWNER/REPO/FILE.gguf[@REVISION]            on the hub that the setting `hub` names; REVISION is "main" else
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urljoin, urlsplit

from mycoswarm.base.errors import InputError
from mycoswarm.base.url import Site, normal_host

MAX_LINK = 8192  # signed addresses of content networks have one to two thousand
HUB = "hf:"
HTTPS_PORT = 443
_LINK = re.compile(r"[!-~]+")
_HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_HUB_FILE = re.compile(r"[A-Za-z0-9._+-][A-Za-z0-9._+ -]{0,200}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,120}")
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Origin:
    """A source, read. `shown` names it without what may be secret in it (a URL's query); `file` is the file's name."""

    shown: str
    site: Site
    file: str


def read_source(text: str, hub: str) -> Origin:
    """Read what the owner names. `hub` is the hub's URL, as the setting has it.

    Raises:
        InputError: neither an https URL of a .gguf file nor a file of the hub, or one part of a model in several.
    """
    url = _on_hub(text, hub) if text.startswith(HUB) else text
    site = read_link(url)
    file = unquote(PurePosixPath(urlsplit(url).path).name)
    if not file.lower().endswith(".gguf"):
        raise _wrong("it names no .gguf file")
    if _PART.search(file):
        raise InputError(
            "this file is one part of a model in several parts",
            hint="Fetch all parts, join them with `llama-gguf-split --merge FIRST-PART OUT.gguf`, and add that file.",
        )
    shown = text if text.startswith(HUB) else f"https://{site.authority}{urlsplit(url).path}"
    return Origin(shown, site, file)


def read_link(url: str, base: Site | None = None) -> Site:
    """Read an https URL, with its query in `path`; with `base` also one that is relative to it.

    Raises:
        InputError: another scheme, a user or password, or no URL.
    """
    if not 0 < len(url) <= MAX_LINK or not _LINK.fullmatch(url) or "\\" in url:
        raise _wrong(f"it must be 1 to {MAX_LINK} plain visible characters")
    try:
        parts = urlsplit(url if base is None else urljoin(f"https://{base.authority}{base.path}", url))
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise _wrong("its host or port cannot be read") from exc
    if parts.scheme != "https":
        raise _wrong("it must begin with https://")
    if "@" in parts.netloc:
        raise _wrong("it must hold no user and no password")
    try:
        host = normal_host(f"[{host}]" if ":" in host else host)
    except InputError as exc:
        raise _wrong("it names no host that can be looked up") from exc
    if port == 0:
        raise _wrong("its port is none")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Site("https", host, port or HTTPS_PORT, path)


def _on_hub(text: str, hub: str) -> str:
    """The URL of a file on the hub: HUB/OWNER/REPO/resolve/REVISION/FILE."""
    rest, _, revision = text.removeprefix(HUB).partition("@")
    owner, _, rest = rest.partition("/")
    repository, _, file = rest.partition("/")
    parts = file.split("/")
    is_sound = _HUB_NAME.fullmatch(owner) and _HUB_NAME.fullmatch(repository) and all(map(_HUB_FILE.fullmatch, parts))
    if not is_sound or {".", ".."} & {owner, repository, *parts} or not _REVISION.fullmatch(revision or "main"):
        raise _wrong("write hf:OWNER/REPO/FILE.gguf, and @REVISION behind it if you want another than main")
    place = "/".join(map(quote, (owner, repository)))
    return f"{hub.rstrip('/')}/{place}/resolve/{quote(revision or 'main', safe='')}/{quote(file)}"


def _wrong(why: str) -> InputError:
    error = InputError(
        f"this is nothing to pull a model from: {why}",
        hint="Name an https URL of a .gguf file, or hf:OWNER/REPO/FILE.gguf.",
    )
    error.param = "source"
    return error
