"""This node's own machine: its memory now, its GPUs, and what answers show of a node's speed."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from hardware.recording import load_machine
from mycoswarm.catalog.facts import ModelFacts
from mycoswarm.daemon.gauge import OwnMachine, graded_bytes_per_s
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.nvidia import NvidiaReading
from mycoswarm.hardware.pci import AMDGPU
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import Finished, Timing

FACTS = msgspec.convert(
    {
        "digest": "d",
        "name": "m",
        "architecture": "llama",
        "quantisation": "Q8_0",
        "parameters": 1,
        "file_bytes": 1 << 30,
        "n_layer": 2,
        "n_embd": 64,
        "n_vocab": 10,
        "n_ctx_train": 100,
        "layer_bytes": [400 << 20, 400 << 20],
        "kv_bytes_per_token": [1, 1],
        "table_bytes": 0,
        "output_bytes": 200 << 20,
        "template": None,
        "splittable": True,
        "split_reason": "listed",
        "cuts": [1],
    },
    ModelFacts,
)


def plan(*bounds: int) -> RingPlan:
    stages = tuple(StagePlan(node_id=f"n{i}", first=a, last=b) for i, (a, b) in enumerate(pairwise(bounds)))
    return RingPlan(
        ring_id="r", model_digest="d", n_layer=2, holder_id="n0", stages=stages, conditions=Conditions(n_ctx=64)
    )


def finished(steps: int, compute_s: float) -> Finished:
    timing = Timing(prefill_s=0, decode_s=1, steps=steps, step_s=compute_s * 1.1, compute_s=compute_s, hops=0)
    return Finished(request_id="r", reason="stop", prompt_tokens=1, completion_tokens=steps, timing=timing)


def test_a_whole_answer_grades_its_node() -> None:
    speed = graded_bytes_per_s(plan(0, 2), FACTS, finished(100, 10.0))
    assert speed == pytest.approx((1000 << 20) * 100 / 10.0)


def test_rings_short_answers_and_small_models_grade_nobody() -> None:
    small = msgspec.structs.replace(FACTS, layer_bytes=(1, 1), output_bytes=1)
    assert graded_bytes_per_s(plan(0, 1, 2), FACTS, finished(100, 10.0)) is None
    assert graded_bytes_per_s(plan(0, 2), FACTS, finished(3, 10.0)) is None
    assert graded_bytes_per_s(plan(0, 2), small, finished(100, 10.0)) is None


RTX = Gpu(
    name="RTX 3090",
    vendor="NVIDIA",
    memory_total_bytes=24 << 30,
    memory_free_bytes=23 << 30,
    backends=("CUDA",),
    is_integrated=False,
    driver="1",
    pci_address="0000:01:00.0",
    memory_source="NVML",
)
ARC = replace(
    RTX,
    name="Arc",
    vendor="Intel",
    memory_free_bytes=7 << 30,
    backends=("Vulkan",),
    pci_address="0000:02:00.0",
    memory_source="Vulkan, at first look",
)
RADEON = replace(RTX, name="Radeon", vendor="AMD", pci_address="0000:03:00.0", memory_source=AMDGPU)


def own(
    tmp_path: Path,
    *gpus: Gpu,
    live: tuple[Gpu, ...] | None = None,
    gpu: bool = True,
    bus: tuple[Gpu, ...] | None = None,
) -> OwnMachine:
    """This machine, with other GPUs; `live` is what NVIDIA's driver says now, `bus` what AMD's does."""

    def nvidia() -> NvidiaReading:
        assert any(one.vendor == "NVIDIA" for one in gpus), "there is no card of NVIDIA's to ask for"
        return NvidiaReading(live, None)

    machine = OwnMachine(tmp_path, gpu=gpu, known_speed=(1e10, 0.0), nvidia=nvidia, bus=lambda: bus)
    machine.machine = replace(load_machine("intel-nuc8-16gb"), gpus=gpus)
    return machine


def test_free_memory_of_nvidia_cards_is_read_anew(tmp_path: Path) -> None:
    full = replace(RTX, memory_free_bytes=0)
    assert own(tmp_path, RTX, live=(full,)).free_bytes() == 0
    assert own(tmp_path, RTX, ARC, live=(full,)).free_bytes() == 7 << 30
    assert own(tmp_path, RTX, live=None).free_bytes() == 23 << 30  # the driver does not answer: as at the first look
    assert own(tmp_path, ARC).free_bytes() == 7 << 30


def test_each_gpus_memory_on_the_card_is_of_now_where_its_driver_tells(tmp_path: Path) -> None:
    """The sheet travels with the card; a GPU's reading is only replaced by one of the same source."""
    shared = replace(RADEON, pci_address="0000:04:00.0", is_integrated=True, memory_source="Vulkan, at first look")
    busy = tuple(replace(one, memory_free_bytes=5, memory_total_bytes=9) for one in (RTX, RADEON))
    machine = own(
        tmp_path,
        *(RTX, ARC, RADEON, shared),
        live=busy[:1],
        bus=(busy[1], replace(shared, memory_free_bytes=1, memory_source=AMDGPU)),
    )
    told = machine.facts()["machine"]["gpus"]
    assert [one["memory_free_bytes"] for one in told] == [5, 7 << 30, 5, 23 << 30]
    assert [one["memory_total_bytes"] for one in told] == [9, 24 << 30, 9, 24 << 30]
    assert [one["memory_source"] for one in told] == ["NVML", ARC.memory_source, AMDGPU, ARC.memory_source]
    assert machine.free_bytes() == 5 + (7 << 30) + 5
    assert own(tmp_path, RADEON, bus=None).free_bytes() == 23 << 30


def test_a_gpu_whose_driver_answers_no_more_says_how_old_its_reading_is(tmp_path: Path) -> None:
    machine = own(tmp_path, RTX, RADEON, ARC, live=None, bus=None)
    told = machine.facts()["machine"]["gpus"]
    assert [one["memory_source"] for one in told] == ["NVML, at first look", "amdgpu, at first look", ARC.memory_source]


def test_the_machine_as_it_is_now_has_its_gpus_memory_of_now(tmp_path: Path) -> None:
    """The doctor's report says so of it."""
    now = own(tmp_path, RTX, live=(replace(RTX, memory_free_bytes=5),)).now()
    assert now is not None and now.gpus is not None and now.gpus[0].memory_free_bytes == 5
    none = own(tmp_path).now()
    assert none is not None and none.gpus == ()


def test_a_card_of_unknown_free_memory_is_unknown_and_not_the_machines(tmp_path: Path) -> None:
    silent = replace(ARC, memory_free_bytes=None)
    assert own(tmp_path, silent).uses_gpu and own(tmp_path, silent).free_bytes() is None


@pytest.mark.parametrize(
    "gpu",
    [replace(RTX, backends=()), replace(RTX, backends=None), replace(RTX, is_integrated=True), None],
    ids=["llama.cpp cannot", "llama.cpp not asked", "shares the CPU's memory", "none"],
)
def test_without_a_gpu_that_computes_it_is_the_machines_memory(tmp_path: Path, gpu: Gpu | None) -> None:
    machine = own(tmp_path, *([gpu] if gpu else []), live=(RTX,))
    assert not machine.uses_gpu and (machine.free_bytes() or 0) > 1 << 20
    assert not own(tmp_path, RTX, live=(RTX,), gpu=False).uses_gpu


def test_a_card_says_nothing_of_a_machine_that_was_not_looked_at_and_no_cpu_speed_for_a_gpu(tmp_path: Path) -> None:
    assert OwnMachine(tmp_path, gpu=True, known_speed=None).facts() == {}
    with_gpu, without = own(tmp_path, RTX, live=(RTX,)).facts(), own(tmp_path).facts()
    assert (with_gpu["uses_gpu"], with_gpu["bytes_per_s"]) == (True, None)
    assert (without["uses_gpu"], without["bytes_per_s"]) == (False, 1e10)
