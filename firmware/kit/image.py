"""The card's image: Debian's part, ours, the program; a boot partition, two system slots, a data partition."""

import argparse
import gzip
import hashlib
import os
import runpy
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rootfs
from rootfs import CACHE, FIRMWARE, KIT, Stop

ROOT = FIRMWARE.parent
OUT = FIRMWARE / "out"
PROGRAM = ROOT / "build" / "out" / "mycoswarm-node-linux-aarch64.standalone"
NAME = "mycoswarm-pi-arm64"
DISK = "4d59434f"  # the card's signature in its partition table, by which kernel and fstab know the partitions
BOOT_MB, SLOT_MB, DATA_MB = 512, 768, 192
STEP = "scripts/init-bottom/mycoswarm"
PI_FILES = ("bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat")
AARCH64 = b"\x7fELF\x02\x01\x01", 183  # ELF, 64 bit, little-endian; e_machine


def main() -> None:
    """All steps, each with its time."""
    parser = argparse.ArgumentParser(prog="firmware/build", description=__doc__)
    parser.add_argument("program", nargs="?", type=Path, default=PROGRAM, help="the standalone aarch64 folder")
    given = parser.parse_args()
    program = executable(given.program.resolve())
    OUT.mkdir(exist_ok=True)
    tree = OUT / "tree"
    settled = settle(rootfs.base(OUT / "base.log"))
    with timed("the appliance's own files"):
        run("rm", "-rf", "--one-file-system", str(tree))
        run("cp", "-a", "--reflink=auto", str(settled), str(tree))
        furnish(tree, program)
    with timed("system.squashfs"):
        system = OUT / f"{NAME}.system"
        pack(tree, system)
    if system.stat().st_size > SLOT_MB << 20:
        raise Stop(f"the system has {megabytes(system)} and a slot only {SLOT_MB} MiB")
    with timed("the card"):
        compressed = card(tree, system)
    print(f"kernel and what belongs to it: {megabytes(*(tree / 'boot' / 'slot').iterdir())} in each slot's folder")
    print(f"{system}: {megabytes(system)} (what an update carries)")
    print(f"{compressed}: {megabytes(compressed)}; unpacked {megabytes(OUT / f'{NAME}.img')}")


def executable(folder: Path) -> Path:
    """The program in a standalone folder.

    Raises:
        Stop: there is none, or it is another machine's.
    """
    for file in sorted(folder.glob("mycoswarm-node*")) if folder.is_dir() else ():
        with file.open("rb") as opened:
            head = opened.read(20)
        if file.is_file() and head[:7] == AARCH64[0]:
            if int.from_bytes(head[18:20], "little") != AARCH64[1]:
                raise Stop(f"{file} is no aarch64 program")
            return file
    raise Stop(f"{folder} holds no mycoswarm-node: `build/binary --target linux-aarch64` makes it (build/README.md)")


def pack(tree: Path, system: Path, level: int = 12) -> None:
    """A root folder as a system, without the kernel's devices."""
    system.unlink(missing_ok=True)
    words = ["-comp", "zstd", "-Xcompression-level", str(level), "-noappend", "-no-progress", "-quiet", "-xattrs"]
    run("mksquashfs", str(tree), str(system), *words, "-wildcards", "-e", "dev/*")


def recipe(base: Path, firmware: Path, kit: Path) -> str:
    """What `settle` makes depends on; of a step that `furnish` puts in afterwards, only that there is one."""
    told = hashlib.sha256(base.name.encode())
    for file in (firmware / "modules.txt", kit / "trim.py", kit / "settle"):
        told.update(file.read_bytes())
    initramfs = firmware / "initramfs"
    for file in sorted(each for each in initramfs.rglob("*") if each.is_file()):
        name = str(file.relative_to(initramfs))
        told.update(name.encode() + b"\0" + (b"" if name == STEP else file.read_bytes()))
    return told.hexdigest()[:12]


def settle(base: Path) -> Path:
    """Debian's part as a folder, with fewer modules and one initramfs; kept for as long as its recipe stays."""
    folder = CACHE / f"settled-{recipe(base, FIRMWARE, KIT)}"
    if folder.exists():
        print(f"kernel and initramfs: {folder.name} is there")
        return folder
    with timed("kernel and initramfs"):
        for old in CACHE.glob("settled-*"):
            run("rm", "-rf", "--one-file-system", str(old))
        fresh = CACHE / "settled.new"
        run("rm", "-rf", "--one-file-system", str(fresh))
        fresh.mkdir()
        run("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", str(base), "-C", str(fresh))
        log = OUT / "settle.log"
        inside(fresh, [str(KIT / "settle"), str(fresh)], log)
        fresh.rename(folder)
        print(next((line for line in log.read_text("utf-8", "replace").splitlines() if "modules:" in line), ""))
    return folder


def put_in(initramfs: Path, name: str, data: bytes, mode: int) -> None:
    """Append an archive with one file, which takes the place of the one of that name: cpio's "newc", by the kernel's
    Documentation/driver-api/early-userspace/buffer-format.rst."""

    def entry(entry_name: str, content: bytes, entry_mode: int) -> bytes:
        fields = (0, entry_mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(entry_name) + 1, 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + entry_name.encode() + b"\0"
        return head + b"\0" * (-len(head) % 4) + content + b"\0" * (-len(content) % 4)

    archive = entry(name, data, 0o100000 | mode) + entry("TRAILER!!!", b"", 0)
    with initramfs.open("ab") as file:
        file.write(gzip.compress(archive, mtime=0))


def furnish(tree: Path, program: Path) -> None:
    """Put ours on top: programs, units, settings, the packet filter, the boot folder of a slot."""
    run("cp", "-r", "--no-preserve=ownership", f"{FIRMWARE / 'root'}/.", str(tree))
    for cache in tree.glob("usr/lib/mycoswarm/__pycache__"):
        shutil.rmtree(cache)
    shutil.copyfile(FIRMWARE / "nftables.conf", tree / "etc" / "nftables.conf")
    fstab = tree / "etc" / "fstab"
    fstab.write_text(fstab.read_text().replace("@DISK@", DISK))
    (tree / "opt").mkdir(exist_ok=True)
    run("cp", "-r", "--no-preserve=ownership", str(program.parent), str(tree / "opt" / "mycoswarm"))
    installed = Path("/opt/mycoswarm") / program.name
    run("chmod", "-R", "u=rwX,go=rX", str(tree / "opt"), str(tree / "usr/lib/mycoswarm"), str(tree / "etc/systemd"))
    (tree / "usr" / "bin" / "mycoswarm-node").symlink_to(installed)
    (tree / "etc" / "systemd" / "system" / "mycoswarm.service").write_text(unit(installed))
    step = (FIRMWARE / "initramfs" / STEP).read_bytes()
    put_in(tree / "boot" / "slot" / "initrd.img", STEP, step, 0o755)
    (tree / "etc" / "initramfs-tools" / STEP).write_bytes(step)
    about = f"kind={NAME}\nversion={version()}\ncommit={commit()}\n"
    (tree / "etc" / "mycoswarm").mkdir(exist_ok=True)
    (tree / "etc" / "mycoswarm" / "image").write_text(about)
    (tree / "boot" / "slot" / "cmdline.txt").write_text(
        (FIRMWARE / "boot" / "cmdline.txt").read_text().replace("@DISK@", DISK)
    )
    run("sh", str(KIT / "furnish"), str(tree))


def card(tree: Path, system: Path) -> Path:
    """The image out of its parts; gives the compressed one."""
    boot, parts = OUT / "boot", OUT / "parts"
    for folder in (boot, parts, OUT / "genimage"):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tree / "boot" / "slot", boot / "a")
    line = boot / "a" / "cmdline.txt"
    line.write_text(line.read_text().replace("@SLOT@", "a").replace("@ROOT@", "02"))
    for name in ("config.txt", "mycoswarm.txt"):
        shutil.copyfile(FIRMWARE / "boot" / name, boot / name)
    for name in PI_FILES:
        shutil.copyfile(tree / "usr" / "lib" / "raspi-firmware" / name, boot / name)
    shutil.copyfile(tree / "usr" / "share" / "doc" / "raspi-firmware" / "copyright", boot / "LICENCE.broadcom")
    parts.mkdir()
    data = parts / "data.ext4"
    words = ["-q", "-t", "ext4", "-L", "mycoswarm", "-m", "1", "-J", "size=16", "-E", "root_owner=0:0"]
    run("mke2fs", *words, str(data), f"{DATA_MB}M")
    os.link(system, parts / "system")
    (OUT / "genimage.cfg").write_text(
        (FIRMWARE / "genimage.cfg").read_text().replace("@DISK@", DISK)
        .replace("@BOOT@", str(BOOT_MB)).replace("@SLOT@", str(SLOT_MB)).replace("@NAME@", NAME)
    )  # fmt: skip
    words = [f"--config={OUT / 'genimage.cfg'}", f"--rootpath={boot}", f"--inputpath={parts}", f"--outputpath={OUT}"]
    run("genimage", *words, f"--tmppath={OUT / 'genimage'}", "--loglevel=1")
    image, compressed = OUT / f"{NAME}.img", OUT / f"{NAME}.img.zst"
    run("zstd", "-q", "-f", "-9", "-T2", str(image), "-o", str(compressed))
    return compressed


def unit(program: Path) -> str:
    """The unit that `service install` writes on any machine, for the program where it lies on this one."""
    made = runpy.run_path(str(ROOT / "appliance" / "mycoswarm" / "cli" / "unit.py"))["system_unit"](program, ())
    return str(made).replace("`service uninstall` takes it away", "here by firmware/build")


def version() -> str:
    """The project's."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def commit() -> str:
    """What it was built from."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def inside(tree: Path, words: list[str], log: Path) -> None:
    """Run something that chroots into a tree, with /proc and /dev there. The mounts are its own and end with it."""
    mounts = f"mount -t proc proc '{tree}/proc' && mount --rbind /dev '{tree}/dev' && exec \"$@\""
    with log.open("wb") as sink:
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, "sh", *words]
        done = subprocess.run(command, stdout=sink, stderr=sink, check=False)
    if done.returncode:
        raise Stop(
            f"{words[0]} failed; the end of {log}:\n" + "\n".join(log.read_text("utf-8", "replace").splitlines()[-20:])
        )


def run(*words: str) -> None:
    """Run a program to its end, and stop where it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Stop(f"{' '.join(words)[:200]} failed:\n{(done.stdout + done.stderr)[-2000:]}")


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took."""
    begin = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - begin:.0f} s", flush=True)


def megabytes(*files: Path) -> str:
    """Together, in words."""
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


if __name__ == "__main__":
    try:
        main()
    except Stop as stop:
        sys.exit(f"firmware/build: {stop}")
