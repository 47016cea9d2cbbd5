import dataclasses

import pytest
from hypothesis import given, settings

from hardware.recording import load_machine
from hardware.strategies import machines
from mycoswarm.base.units import GIB
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.grade import classify
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.memory import Memory

NUC = load_machine("intel-nuc8-16gb")
CARD = Gpu("NVIDIA GeForce RTX 4060", "NVIDIA", 8 * GIB, 7 * GIB, ("CUDA",), False, None, None)
CLASSES = {"large GPU worker", "GPU worker", "worker", "light worker", "coordinator", "unknown"}


def with_memory(machine: Machine, total_bytes: int) -> Machine:
    return dataclasses.replace(machine, memory=Memory(total_bytes, *[None] * 6))


@settings(deadline=None, max_examples=50)
@given(machines)
def test_every_machine_has_a_class_and_a_reason(machine: Machine) -> None:
    grade = classify(machine)
    assert grade.name in CLASSES
    assert grade.reason.endswith(".")


@pytest.mark.parametrize(
    ("total_gib", "name"), [(3.7, "coordinator"), (7.6, "light worker"), (15.3, "worker"), (62, "worker")]
)
def test_without_a_gpu_the_memory_decides(total_gib: float, name: str) -> None:
    assert classify(with_memory(NUC, int(total_gib * GIB))).name == name


def test_a_pi_coordinates_however_much_memory_it_has() -> None:
    assert classify(with_memory(load_machine("raspberry-pi-5-8gb"), 16 * GIB)).name == "coordinator"


def test_a_cpu_without_fast_kernels_or_threads_is_a_light_worker() -> None:
    old = dataclasses.replace(NUC.processor, instruction_sets=("SSE3", "AVX"))
    few = dataclasses.replace(NUC.processor, usable_threads=2.0)
    assert "AVX2" in classify(dataclasses.replace(NUC, processor=old)).reason
    assert "2 CPU threads" in classify(dataclasses.replace(NUC, processor=few)).reason


def test_a_gpu_counts_only_where_llama_cpp_can_use_it() -> None:
    usable = dataclasses.replace(NUC, gpus=(CARD,))
    idle = dataclasses.replace(NUC, gpus=(dataclasses.replace(CARD, backends=()),))
    unasked = dataclasses.replace(NUC, gpus=(dataclasses.replace(CARD, backends=None),))
    assert classify(usable).name == "GPU worker"
    assert classify(idle).name == "worker"
    assert "has no back end for it" in classify(idle).reason
    assert "could not be asked about it" in classify(unasked).reason


def test_two_cards_together_make_a_large_gpu_worker() -> None:
    sixteen = dataclasses.replace(CARD, memory_total_bytes=16 * GIB)
    assert classify(dataclasses.replace(NUC, gpus=(sixteen,))).name == "GPU worker"
    assert classify(dataclasses.replace(NUC, gpus=(sixteen, sixteen))).name == "large GPU worker"


def test_a_pcs_integrated_graphics_make_no_gpu_worker() -> None:
    shared = Gpu("Intel UHD", "Intel", 30 * GIB, 30 * GIB, ("Vulkan",), True, None, None)
    assert classify(dataclasses.replace(NUC, gpus=(shared,))).name == "worker"
