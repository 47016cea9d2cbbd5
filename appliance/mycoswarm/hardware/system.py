"""The operating system, its kernel, and whether we run in a container."""

from dataclasses import dataclass
from pathlib import Path

from mycoswarm.hardware.root import clean, has, parse_table, read_text, read_word

# Words in the control group's path that container engines leave there.
_GROUP_WORDS = (("kubepods", "kubernetes"), ("docker", "docker"), ("libpod", "podman"), ("lxc", "lxc"))


@dataclass(frozen=True, slots=True)
class System:
    """`family` is "Linux" or "macOS". `container` is "docker", "podman", "kubernetes", "lxc", another engine's
    own name, or "none" where we looked and found no sign of one; None where we could not look."""

    family: str | None
    name: str | None
    kernel: str | None
    container: str | None


UNKNOWN_SYSTEM = System(None, None, None, None)


def read_system(root: Path) -> System:
    """Read a Linux root's release, kernel and container."""
    version = clean(read_text(root, "proc/version"))
    words = (version or "").split()
    is_linux = words[:2] == ["Linux", "version"]
    return System(
        family="Linux" if is_linux else None,
        name=parse_release(read_text(root, "etc/os-release") or read_text(root, "usr/lib/os-release")),
        kernel=words[2] if is_linux and len(words) > 2 else None,
        container=_find_container(root),
    )


def parse_release(text: str | None) -> str | None:
    """The system's own name for itself out of os-release (freedesktop.org: os-release(5)). Total."""
    table = {key: value.strip("\"'") for key, value in parse_table(text, "=").items()}
    return clean(table.get("PRETTY_NAME")) or clean(f"{table.get('NAME', '')} {table.get('VERSION', '')}")


def _find_container(root: Path) -> str | None:
    if has(root, "run/secrets/kubernetes.io") or has(root, "var/run/secrets/kubernetes.io"):
        return "kubernetes"
    if has(root, ".dockerenv"):
        return "docker"
    if has(root, "run/.containerenv"):
        return "podman"
    named = read_word(root, "run/systemd/container")
    if named is not None:
        return named
    groups = [read_text(root, f"proc/{process}/cgroup") for process in ("1", "self")]
    for word, engine in _GROUP_WORDS:
        if any(f"/{word}" in (text or "") for text in groups):
            return engine
    return "none" if any(text is not None for text in groups) else None
