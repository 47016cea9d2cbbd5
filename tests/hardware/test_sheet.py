import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.recording import NAMES, load_machine
from hardware.strategies import machines
from mycoswarm.base.errors import ProtocolError
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.sheet import from_json, to_json

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def sheet() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(to_json(load_machine("workstation-2x-rtx-3090"))))
    return data


@settings(deadline=None, max_examples=50)
@given(machines)
def test_every_machine_comes_back_from_the_wire_as_it_was(machine: Machine) -> None:
    assert from_json(json.loads(json.dumps(to_json(machine)))) == machine


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_machine_fits_on_a_card(name: str) -> None:
    machine = load_machine(name)
    assert from_json(json.loads(json.dumps(to_json(machine)))) == machine


@settings(deadline=None, max_examples=50)
@given(json_values, st.sampled_from(sorted(sheet())))
def test_anything_else_is_refused_with_a_typed_error(value: object, key: str) -> None:
    for data in (value, {**sheet(), key: value}):
        try:
            from_json(data)
        except ProtocolError as error:
            assert error.side == "remote"


def test_keys_of_a_newer_version_are_passed_over() -> None:
    assert from_json({**sheet(), "shiny": True}) == load_machine("workstation-2x-rtx-3090")


@pytest.mark.parametrize(
    ("part", "key", "value", "place"),
    [
        ("disk", "free_bytes", 1.5, "machine.disk.free_bytes"),
        ("disk", "free_bytes", True, "machine.disk.free_bytes"),
        ("disk", "free_bytes", 1 << 63, "machine.disk.free_bytes"),
        ("processor", "usable_threads", float("inf"), "machine.processor.usable_threads"),
        ("processor", "usable_threads", float("nan"), "machine.processor.usable_threads"),
        ("processor", "threads", 10**400, "machine.processor.threads"),
        ("processor", "instruction_sets", ["AVX"] * 65, "machine.processor.instruction_sets"),
        ("processor", "instruction_sets", [1], "machine.processor.instruction_sets[0]"),
        ("board", "model", "x" * 401, "machine.board.model"),
        ("board", "model", "\x1b[31mred", "machine.board.model"),
        ("board", "is_raspberry_pi", "yes", "machine.board.is_raspberry_pi"),
    ],
)
def test_a_wrong_value_is_refused_by_its_place(part: str, key: str, value: object, place: str) -> None:
    data = sheet()
    data[part][key] = value
    with pytest.raises(ProtocolError) as caught:
        from_json(data)
    assert caught.value.message.startswith(place + ":")


def test_a_missing_key_is_refused_by_its_name() -> None:
    data = sheet()
    del data["gpus"][1]["driver"]
    with pytest.raises(ProtocolError, match=r"machine\.gpus\[1\]: driver is missing"):
        from_json(data)


def test_a_key_that_older_versions_have_not_may_be_missing() -> None:
    data = sheet()
    del data["gpus"][1]["memory_source"]
    assert (from_json(data).gpus or ())[1].memory_source is None
