from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.hardware.system import parse_release, read_system


@settings(deadline=None)
@given(st.text())
def test_any_release_file_gives_a_name_or_none(text: str) -> None:
    assert parse_release(text) is None or parse_release(text)


def test_a_release_without_a_pretty_name_is_put_together() -> None:
    assert parse_release('NAME="Alpine Linux"\nVERSION="3.20"\n') == "Alpine Linux 3.20"


@pytest.mark.parametrize(
    ("path", "text", "container"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        ("run/systemd/container", "systemd-nspawn\n", "systemd-nspawn"),
        ("run/secrets/kubernetes.io/token", "", "kubernetes"),
        ("proc/1/cgroup", "0::/kubepods/burstable/pod1\n", "kubernetes"),
        ("proc/self/cgroup", "4:memory:/docker/0123\n", "docker"),
        ("proc/self/cgroup", "0::/lxc.payload.box\n", "lxc"),
        ("proc/self/cgroup", "0::/user.slice\n", "none"),
        ("etc/hosts", "", None),
    ],
)
def test_a_container_is_known_by_what_its_engine_leaves(
    tmp_path: Path, path: str, text: str, container: str | None
) -> None:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert read_system(tmp_path).container == container
