from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.base.units import GIB
from mycoswarm.hardware.cgroup import Allowance, parse_membership, read_allowance

FREE = Allowance(None, None, None, None)


def write(root: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_any_membership_text_is_read(text: str) -> None:
    assert all(path.startswith("/") for path in parse_membership(text).values())


def test_a_machine_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert read_allowance(tmp_path) == FREE


def test_a_limit_on_a_parent_group_binds(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/app.scope\n",
            f"{group}/cgroup.controllers": "cpu memory\n",
            f"{group}/user.slice/memory.max": f"{8 * GIB}\n",
            f"{group}/user.slice/memory.high": f"{6 * GIB}\n",
            f"{group}/user.slice/memory.current": f"{5 * GIB}\n",
            f"{group}/user.slice/cpu.max": "50000 100000\n",
            f"{group}/user.slice/app.scope/memory.max": f"{4 * GIB}\n",
            f"{group}/user.slice/app.scope/memory.current": f"{1 * GIB}\n",
            f"{group}/user.slice/app.scope/cpu.max": "max 100000\n",
        },
    )
    assert read_allowance(root) == Allowance(4 * GIB, 1 * GIB, "cgroup memory.high", 0.5)


def test_file_pages_that_can_go_are_not_counted_as_used(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory.stat": f"anon 5\ninactive_file {3 * GIB}\n",
        },
    )
    assert read_allowance(root).memory_room_bytes == 3 * GIB


def test_more_used_than_allowed_leaves_no_room_and_not_less(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": "100\n", "sys/fs/cgroup/memory.current": "300\n"}
    assert read_allowance(write(tmp_path, files)).memory_room_bytes == 0


@pytest.mark.parametrize("path", ["/system.slice/docker-0123.scope", "/../../etc", "/" + "a/" * 99])
def test_a_path_of_the_host_or_out_of_bounds_falls_back_to_the_mounted_root(tmp_path: Path, path: str) -> None:
    files = {"proc/self/cgroup": f"0::{path}\n", "sys/fs/cgroup/memory.max": "4096\n"}
    assert read_allowance(write(tmp_path, files)).memory_limit_bytes == 4096


def test_a_hybrid_machine_takes_its_memory_limit_from_version_1(tmp_path: Path) -> None:
    group = "sys/fs/cgroup"
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n",
            f"{group}/unified/cgroup.controllers": "\n",
            f"{group}/memory/box/memory.limit_in_bytes": f"{2 * GIB}\n",
            f"{group}/memory/box/memory.usage_in_bytes": f"{1 * GIB}\n",
            f"{group}/cpu,cpuacct/box/cpu.cfs_quota_us": "-1\n",
            f"{group}/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        },
    )
    assert read_allowance(root) == Allowance(2 * GIB, 1 * GIB, "cgroup memory.limit_in_bytes", None)


def test_a_limit_without_a_known_usage_has_no_known_room(tmp_path: Path) -> None:
    root = write(tmp_path, {"sys/fs/cgroup/memory.max": "4096\n"})
    assert read_allowance(root) == Allowance(4096, None, None, None)
