"""Arbitrary machines, for properties that hold for all of them."""

from hypothesis import strategies as st

from mycoswarm.hardware.board import Board
from mycoswarm.hardware.disk import Disk
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.machine import Machine
from mycoswarm.hardware.memory import Memory
from mycoswarm.hardware.processor import Processor
from mycoswarm.hardware.root import clean
from mycoswarm.hardware.system import System

maybe_bytes = st.none() | st.integers(0, 1 << 42)
words = st.text(max_size=300).map(lambda text: clean(text) or "x")
maybe_words = st.none() | words
maybe_flags = st.none() | st.booleans()
gpus = st.builds(
    Gpu,
    name=words,
    vendor=st.sampled_from([None, "NVIDIA", "AMD", "Apple", "Intel"]),
    memory_total_bytes=maybe_bytes,
    memory_free_bytes=maybe_bytes,
    backends=st.none() | st.lists(st.sampled_from(["CUDA", "Vulkan", "Metal", "ROCm"]), max_size=3).map(tuple),
    is_integrated=maybe_flags,
    driver=maybe_words,
    pci_address=maybe_words,
    memory_source=maybe_words,
)
processors = st.builds(
    Processor,
    model=maybe_words,
    vendor=maybe_words,
    architecture=maybe_words,
    physical_cores=st.none() | st.integers(1, 512),
    threads=st.none() | st.integers(1, 1024),
    usable_threads=st.none() | st.floats(0.1, 1024),
    instruction_sets=st.none() | st.lists(st.sampled_from(["AVX", "AVX2", "NEON", "DOTPROD"])).map(tuple),
)
machines = st.builds(
    Machine,
    processor=processors,
    memory=st.builds(Memory, *[maybe_bytes] * 4, maybe_words, maybe_bytes, maybe_bytes),
    disk=st.builds(Disk, maybe_bytes, maybe_bytes),
    gpus=st.none() | st.lists(gpus, max_size=4).map(tuple),
    board=st.builds(Board, maybe_words, maybe_words, maybe_flags),
    system=st.builds(System, *[maybe_words] * 4),
    temperature_celsius=st.none() | st.floats(-40, 150),
    notes=st.lists(words, max_size=3).map(tuple),
)
