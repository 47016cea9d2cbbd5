"""Settings: one frozen value out of a TOML file, the environment and flags; the later of these wins.

The file is `settings.toml` in the data folder. The environment's names are `MYCOSWARM_` and the field in capitals.
docs/settings.md lists every field; a test holds it to this module.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from mycoswarm.base.errors import SettingError
from mycoswarm.base.units import parse_seconds

PREFIX = "MYCOSWARM_"
FILE_NAME = "settings.toml"
# A run of an agent makes some three calls: at nine right of ten, more than a quarter of the runs have a wrong one.
STRICT_BELOW = 90


def _set(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an owner may set. Empty lists and texts mean: find out by yourself."""

    data_folder: Path
    name: str = _set("", "this node's name; empty: the host name")
    console: str = _set("127.0.0.1:6926", "where clients and the dashboard connect (host:port; port 0: any free one)")
    peer: str = _set(":6927", "where other nodes connect (host:port; no host: all addresses)")
    discovery: bool = _set(True, "find other nodes by multicast DNS")
    interfaces: tuple[str, ...] = _set(
        (), "addresses whose networks multicast DNS uses; empty: all but container bridges"
    )
    peers: tuple[str, ...] = _set((), "nodes that multicast DNS does not reach, as host:port of their peer listener")
    advertise: tuple[str, ...] = _set((), "addresses to announce instead of the ones found")
    lan: tuple[str, ...] = _set((), "further networks that count as this LAN, a VPN's too, as 10.8.0.0/24")
    threads: int = _set(0, "CPU threads for llama.cpp; 0: the number of cores this process may use")
    context_tokens: int = _set(
        4096, "KV cache per ring in tokens, shared by its requests; a model's own limit is lower"
    )
    step_tokens: int = _set(256, "tokens per step while a prompt is read")
    sequences: int = _set(4, "answers that one ring produces at once")
    gpu: bool = _set(True, "use GPUs where llama.cpp finds them")
    idle_s: float = _set(300.0, "a loaded model leaves memory after this time without a request")
    request_s: float = _set(600.0, "no answer takes longer than this")
    ledger_prompts: bool = _set(False, "keep the text of every prompt in the ledger of the node that decides")
    run_history: bool = _set(True, "keep what agents were asked, did and answered, for `agent runs`")
    strict_below: int = _set(
        STRICT_BELOW,
        "percent: tool calls of models with a lower certificate, or of an agent's without one, are held to the tools' "
        "schemas; 0: never, 101: always where there is a certificate or an agent",
    )
    library_embedding_model: str = _set(
        "", "the model that makes vectors of documents; empty: the first that is made for that, if there is one"
    )
    hub: str = _set("https://huggingface.co", "where `models pull hf:OWNER/REPO/FILE.gguf` looks; or a mirror of it")
    border: str = _set(
        "", "on an appliance: the socket of the service that opens its packet filter; empty: there is none"
    )
    log_level: str = _set("info", "debug, info, warning or error")


def meanings() -> dict[str, tuple[str, str]]:
    """Every field but the folder: its default as TOML text, and what it means."""
    found = {}
    for one in fields(Settings):
        if "meaning" in one.metadata:
            found[one.name] = (_as_toml(one.default), str(one.metadata["meaning"]))
    return found


def load_settings(
    data_folder: Path, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Read the settings of one data folder. Flags that are None count as not given.

    Raises:
        SettingError: an unknown name, a wrong type or value, or a file that is not TOML; says where.
    """
    values: dict[str, Any] = {}
    path = data_folder / FILE_NAME
    if path.exists():
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise SettingError(f"{path} cannot be read: {exc}", hint="Mend or remove the file.") from exc
        values |= {name: _checked(name, value, str(path)) for name, value in given.items()}
    known = get_type_hints(Settings)
    for name, text in (os.environ if environment is None else environment).items():
        short = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and short in known and short != "data_folder":
            values[short] = _checked(short, _from_text(short, text, name), name)
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = _checked(name, value, f"--{name.replace('_', '-')}")
    return _in_range(Settings(data_folder=data_folder, **values))


def _from_text(name: str, text: str, where: str) -> Any:
    kind = get_type_hints(Settings)[name]
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if kind is int:
            return int(text)
        if kind is float:
            return parse_seconds(text)
    except (KeyError, ValueError) as exc:
        raise SettingError(f"{where} is {text!r}, which is not a value for {name}") from exc
    return tuple(part.strip() for part in text.split(",") if part.strip()) if kind == tuple[str, ...] else text


def _checked(name: str, value: Any, where: str) -> Any:
    kind = get_type_hints(Settings).get(name)
    if kind is None or name == "data_folder":
        raise SettingError(f"{where} names {name!r}, which is no setting", hint="docs/settings.md lists them all.")
    if kind == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise SettingError(f"{where} gives {name} the value {value!r}, which is not of the right kind")


def _in_range(settings: Settings) -> Settings:
    limits = {"threads": (0, 512), "context_tokens": (64, 1 << 24), "step_tokens": (1, 8192), "sequences": (1, 64)}
    limits["strict_below"] = 0, 101
    for name, (low, high) in limits.items():
        if not low <= getattr(settings, name) <= high:
            raise SettingError(f"{name} is {getattr(settings, name)}; it must be from {low} to {high}")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise SettingError(f"log_level is {settings.log_level!r}; it must be debug, info, warning or error")
    for name in ("console", "peer"):
        split_address(getattr(settings, name), name)
    if not re.fullmatch(r"https://[!-~]{1,200}", settings.hub) or set(settings.hub) & set("?#@\\"):
        raise SettingError(f"hub is {settings.hub!r}, which is no https URL", hint="Write https://hub.example.")
    for text in settings.lan:
        try:
            ipaddress.ip_network(text)
        except ValueError as exc:
            raise SettingError(f"lan names {text!r}, which is no network: {exc}", hint="Write 10.8.0.0/24.") from exc
    return settings


def split_address(text: str, name: str = "address") -> tuple[str, int]:
    """Read "host:port", ":port" (host "") or "[v6]:port".

    Raises:
        SettingError: not an address.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and not host.startswith("[")):
        raise SettingError(f"{name} is {text!r}, which is not host:port", hint='Write it like "127.0.0.1:6926".')
    return host.strip("[]"), int(port)


def _as_toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[]"
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
