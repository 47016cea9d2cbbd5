import pytest
from hypothesis import given, settings

from hardware.recording import NAMES, load_machine
from hardware.strategies import machines
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.overview import list_rows


@settings(deadline=None, max_examples=50)
@given(machines)
def test_every_machine_can_be_shown(machine: Machine) -> None:
    for label, value in list_rows(machine):
        assert label
        assert value


@pytest.mark.parametrize("name", NAMES)
def test_no_none_is_ever_shown_to_the_owner(name: str) -> None:
    assert "None" not in str(list_rows(load_machine(name)))


def test_limits_and_containers_are_told() -> None:
    rows = dict(list_rows(load_machine("container-cgroup-v2")))
    assert rows["Memory"] == "3.0 GiB free of 31.4 GiB, limited to 4.0 GiB (cgroup memory.max)"
    assert rows["System"].endswith("in a container (docker)")
    assert "1.5 of them for us" in rows["CPU"]


def test_each_gpu_has_its_row() -> None:
    rows = list_rows(load_machine("workstation-2x-rtx-3090"))
    assert len([value for label, value in rows if label == "GPU"]) == 3
