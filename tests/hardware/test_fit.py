import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.recording import load_machine
from hardware.strategies import machines
from mycoswarm.base.units import GIB
from mycoswarm.hardware.fit import MARGIN, find_rooms, fitting, largest
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.memory import Memory

NUC = load_machine("intel-nuc8-16gb")
CARD = Gpu("NVIDIA GeForce RTX 3090", "NVIDIA", 24 * GIB, 23 * GIB, ("CUDA",), False, None, None)


def with_free(free_bytes: int | None, *gpus: Gpu) -> Machine:
    return dataclasses.replace(NUC, memory=Memory(None, None, None, free_bytes, None, None, None), gpus=gpus)


@settings(deadline=None, max_examples=50)
@given(machines)
def test_whatever_fits_leaves_the_margin_free(machine: Machine) -> None:
    for fit in fitting(machine):
        assert 0 < fit.needed_bytes <= fit.room_bytes * (1 - MARGIN)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_more_memory_never_holds_less(one: int, other: int) -> None:
    few, many = ({(fit.size, fit.quantisation) for fit in fitting(with_free(free))} for free in sorted((one, other)))
    assert few <= many


def test_an_8b_model_at_four_bits_needs_its_weights_and_one_gibibyte_of_context() -> None:
    fit = largest(fitting(with_free(8 * GIB)))
    assert fit is not None
    assert (fit.size, fit.device) == ("8B", "memory")
    # llama.cpp's README gives 4.58 GiB for this file.
    assert abs(fit.needed_bytes - (4.58 + 1) * GIB) < 0.01 * GIB


def test_unknown_memory_holds_nothing() -> None:
    assert fitting(with_free(None)) == ()
    assert fitting(with_free(0)) == ()


def test_a_gpu_is_preferred_then_gpus_together_then_memory() -> None:
    machine = with_free(128 * GIB, CARD, CARD)
    places = {(fit.size, fit.quantisation): fit.device for fit in fitting(machine)}
    assert places["8B", "Q4_K_M"] == "NVIDIA GeForce RTX 3090"
    assert places["32B", "Q6_K"] == "2 GPUs together (CUDA)"
    assert places["70B", "Q8_0"] == "memory"


def test_gpus_that_share_no_back_end_are_not_joined() -> None:
    other = dataclasses.replace(CARD, backends=("ROCm",))
    assert [room.device for room in find_rooms(with_free(None, CARD, other))] == [CARD.name] * 2


def test_a_gpu_that_llama_cpp_cannot_use_holds_nothing() -> None:
    assert fitting(with_free(None, dataclasses.replace(CARD, backends=()))) == ()
    assert fitting(with_free(None, dataclasses.replace(CARD, backends=None))) == ()


def test_a_gpu_that_shares_memory_has_no_more_than_the_cpu_has() -> None:
    shared = dataclasses.replace(CARD, is_integrated=True)
    assert {room.room_bytes for room in find_rooms(with_free(4 * GIB, shared))} == {4 * GIB}
