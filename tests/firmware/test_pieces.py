"""The image's units, settings and shell files, and what its recipe reckons with."""

import gzip
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from house.tree import ROOT, texts
from mycoswarm.cli.unit import system_unit
from pi import FIRMWARE, load

trim = load("trim", "kit")
image = load("image", "kit")
rootfs = load("rootfs", "kit")
SYSTEM = FIRMWARE / "root" / "etc" / "systemd" / "system"
SHELL = [
    *(FIRMWARE / name for name in ("build", "boot-test", "kit/settle", "kit/furnish", "kit/pi")),
    *(each for each in (FIRMWARE / "initramfs").rglob("*") if each.is_file() and each.parent.name != "conf.d"),
    *(FIRMWARE / "root" / "usr" / "sbin").iterdir(),
]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: apt install systemd")
def test_the_units_are_sound(tmp_path: Path) -> None:
    shutil.copytree(SYSTEM, tmp_path, dirs_exist_ok=True)
    own = shutil.which("true")
    (tmp_path / "mycoswarm.service").write_text(system_unit(Path(str(own)), ()))
    for name in ("nftables", "ssh", "iwd", "systemd-networkd-wait-online"):
        if not (tmp_path / f"{name}.service").exists():  # what Debian's packages bring
            (tmp_path / f"{name}.service").write_text(
                f"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={own}\n"
            )
    for file in tmp_path.rglob("*.*"):
        if file.is_file():
            file.write_text(file.read_text().replace("/usr/lib/systemd/systemd-networkd-wait-online", str(own)))
    units = [str(each) for each in sorted(tmp_path.glob("*.service"))]
    command = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and str(tmp_path) not in done.stderr, done.stderr


def test_the_daemon_is_told_where_the_border_listens() -> None:
    service = (SYSTEM / "mycoswarm-border.service").read_text().splitlines()
    (folder,) = (line.partition("=")[2] for line in service if line.startswith("RuntimeDirectory="))
    told = (SYSTEM / "mycoswarm.service.d" / "appliance.conf").read_text()
    assert f"\nEnvironment=MYCOSWARM_BORDER=/run/{folder}/{load('border').ASK}\n" in told
    assert "Group=mycoswarm" in service and "RuntimeDirectoryMode=0750" in service


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is missing: apt install shellcheck")
def test_the_shell_files_are_sound() -> None:
    command = ["shellcheck", "--shell=sh", *map(str, SHELL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", SHELL, ids=lambda file: file.name)
def test_shell_files_stop_at_a_fault_and_are_short(file: Path) -> None:
    text = file.read_text()
    assert text.startswith("#!/bin/sh\n") and len(text.splitlines()) <= 80
    if "init-bottom" not in file.parts:  # that one must come to its end: the system starts all the same
        assert "\nset -eu\n" in text
    assert file.stat().st_mode & 0o111


def test_the_first_line_of_config_txt_names_the_slot() -> None:
    assert (FIRMWARE / "boot" / "config.txt").read_bytes().startswith(b"os_prefix=a/\n")


def test_no_mirror_is_named() -> None:
    for path, text in texts():
        if FIRMWARE in path.parents:
            assert "deb.debian" not in text and "://deb" not in text, path


def test_modules_stay_with_all_that_they_need() -> None:
    names = {
        "kernel/fs/ext4/ext4.ko": ["kernel/fs/jbd2/jbd2.ko", "kernel/lib/crc16.ko"],
        "kernel/fs/jbd2/jbd2.ko": [],
        "kernel/lib/crc16.ko": [],
        "kernel/fs/xfs/xfs.ko": ["kernel/lib/crc16.ko"],
    }
    assert trim.kept(names, ["fs/ext4/*"]) == set(names) - {"kernel/fs/xfs/xfs.ko"}
    assert trim.kept(names, ["fs/none/*"]) == set()


def test_only_an_aarch64_program_goes_in(tmp_path: Path) -> None:
    with pytest.raises(image.Stop, match="holds no mycoswarm-node"):
        image.executable(tmp_path)
    file = tmp_path / "mycoswarm-node"
    for machine, good in ((183, True), (62, False)):
        file.write_bytes(b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HH", 3, machine) + bytes(40))
        if good:
            assert image.executable(tmp_path) == file
        else:
            with pytest.raises(image.Stop, match="no aarch64 program"):
                image.executable(tmp_path)


def test_what_the_image_needs_is_written_down() -> None:
    told = (FIRMWARE / "README.md").read_text()
    for name in ("mmdebstrap", "genimage", "qemu-user-static", "squashfs-tools"):
        assert name in told
    assert (ROOT / ".gitignore").read_text().count("/firmware/out/") == 1


def test_our_step_takes_its_place_in_an_initramfs(tmp_path: Path) -> None:
    initramfs = tmp_path / "initrd.img"
    initramfs.write_bytes(b"before")
    step = b"#!/bin/sh\necho ours\n"
    image.put_in(initramfs, "scripts/init-bottom/mycoswarm", step, 0o755)
    archive = gzip.decompress(initramfs.read_bytes().removeprefix(b"before"))
    found, at = [], 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"  # newc: 13 numbers of 8 hexadecimal digits, padded to 4 bytes
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1]
        begin = at + (110 + fields[11] + 3) // 4 * 4
        found.append((name, fields[1], archive[begin : begin + fields[6]]))
        at = (begin + fields[6] + 3) // 4 * 4
    assert found == [(b"scripts/init-bottom/mycoswarm", 0o100755, step), (b"TRAILER!!!", 0, b"")]


def test_a_step_that_is_put_in_afterwards_costs_no_new_initramfs(tmp_path: Path) -> None:
    firmware = tmp_path / "firmware"
    shutil.copytree(FIRMWARE, firmware, ignore=shutil.ignore_patterns("out", "root"))
    base, kit, step = Path("base-1.tar"), firmware / "kit", firmware / "initramfs" / image.STEP
    before = image.recipe(base, firmware, kit)
    step.write_text("#!/bin/sh\n")
    assert image.recipe(base, firmware, kit) == before
    others = [firmware / "modules.txt", kit / "settle", kit / "trim.py", firmware / "initramfs" / "hooks" / "mycoswarm"]
    for file in others:
        file.write_text(f"{file.read_text()}# more\n")
        after = image.recipe(base, firmware, kit)
        assert after != before
        before = after
    step.rename(step.with_name("other"))
    assert image.recipe(base, firmware, kit) != before != image.recipe(Path("base-2.tar"), firmware, kit)


def test_mirrors_are_what_apt_lists() -> None:
    listed = "http://here/debian/ bookworm\nhttp://here/debian/ bookworm-updates\nhttp://there/ bookworm-security\n"
    assert rootfs.mirrors(listed, "bookworm") == ("http://here/debian/", "http://there/")
    with pytest.raises(rootfs.Stop, match=r"lists are empty .* run `apt-get update` first"):
        rootfs.mirrors("\n", "bookworm")
    with pytest.raises(rootfs.Stop, match="names no mirror for trixie"):
        rootfs.mirrors(listed, "trixie")
