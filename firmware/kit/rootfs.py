"""Debian's part of the image, as a tar that is kept: packages from this machine's own mirrors."""

import hashlib
import os
import subprocess
import time
from pathlib import Path

KIT = Path(__file__).resolve().parent
FIRMWARE = KIT.parent
CACHE = FIRMWARE / "out" / "cache"
SUITE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Of this machine's apt settings, those that say how to reach its mirrors.
CARRIED = ("Acquire::http::", "Acquire::https::", "Acquire::Check-Valid-Until", "Acquire::Check-Date")
PREFER = f"Package: linux-*\nPin: release n={SUITE}-backports\nPin-Priority: 900\n"
LEFT_OUT = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/lintian/*")


class Stop(Exception):
    """What ends a build, in words."""


def sources() -> list[str]:
    """Lines for apt: the mirrors that this machine's apt uses for its own Debian, with the image's suite."""
    shown = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    main, security = mirrors(shown, _codename())
    parts = "main non-free-firmware"
    return [
        f"deb {main} {SUITE} {parts}",
        f"deb {main} {SUITE}-updates {parts}",
        f"deb {security} {SUITE}-security {parts}",
        f"deb {main} {SUITE}-backports {parts}",
    ]


def mirrors(shown: str, own: str) -> tuple[str, str]:
    """Debian's mirror and the one of its security updates, of what apt lists for a suite. Pure.

    Raises:
        Stop: it lists none.
    """
    if not shown.strip():  # apt lists only what it has fetched
        raise Stop("apt's lists are empty on this machine: run `apt-get update` first")
    found = {codename: uri for uri, _, codename in (line.partition(" ") for line in shown.splitlines())}
    main, security = found.get(own), found.get(f"{own}-security")
    if main is None or security is None:
        raise Stop(
            f"apt on this machine names no mirror for {own} and {own}-security, and an image needs Debian's mirrors. "
            "Where they are named, `apt-get update` has to run first"
        )
    return main, security


def packages() -> list[str]:
    """Their names."""
    lines = (FIRMWARE / "packages.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def base(log: Path) -> Path:
    """The tar of all packages; made where there is none of just these."""
    names = packages()
    told = "\n".join((SUITE, PREFER, *LEFT_OUT, *names))
    file = CACHE / f"base-{hashlib.sha256(told.encode()).hexdigest()[:12]}.tar"
    if file.exists():
        print(f"packages: {file.name} is there")
        return file
    CACHE.mkdir(parents=True, exist_ok=True)
    prefer = CACHE / "preferences"
    prefer.write_text(PREFER)
    fresh = file.with_suffix(".new.tar")
    command = ["mmdebstrap", "--architectures=arm64", "--variant=minbase", "--mode=root", f"--keyring={KEYRING}"]
    command += [f"--include={','.join(names)}", "--dpkgopt=force-confold", *_aptopts()]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    command += [f'--setup-hook=install -D -m 644 {prefer} "$1/etc/apt/preferences.d/backports"']
    # One initramfs at the end is enough: under emulation each takes minutes.
    command += [
        '--essential-hook=cd "$1/etc" && mkdir -p initramfs-tools && '
        "echo update_initramfs=no > initramfs-tools/update-initramfs.conf"
    ]
    command += [f'--customize-hook={KIT / "pi"} "$1"', SUITE, str(fresh), *sources()]
    begin = time.monotonic()
    print("packages: taking them from this machine's mirrors; about ten minutes of one core", flush=True)
    with log.open("wb") as sink:
        done = subprocess.run(command, stdout=sink, stderr=sink, env={**os.environ, "INITRD": "No"}, check=False)
    if done.returncode:
        fresh.unlink(missing_ok=True)
        raise Stop(f"mmdebstrap failed; the end of {log}:\n{_end(log)}")
    fresh.replace(file)
    print(f"packages: {file.stat().st_size / 1e6:.0f} MB in {time.monotonic() - begin:.0f} s")
    return file


def _codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise Stop("this machine does not say which Debian it is")


def _aptopts() -> list[str]:
    shown = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    return [f"--aptopt={line}" for line in shown.splitlines() if line.startswith(CARRIED) and not line.endswith('"";')]


def _end(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-25:])
