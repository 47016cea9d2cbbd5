"""A machine as rows of words, for a table on a terminal or a web page."""

from mycoswarm.base.units import format_bytes
from mycoswarm.hardware.fit import fitting, largest
from mycoswarm.hardware.gpu import Gpu
from mycoswarm.hardware.grade import classify
from mycoswarm.hardware.machine import Machine

UNKNOWN = "unknown"


def list_rows(machine: Machine) -> tuple[tuple[str, str], ...]:
    """(label, value) pairs in reading order; what is not known says "unknown". Pure and total."""
    grade = classify(machine)
    rows = [
        ("Class", f"{grade.name}: {grade.reason}"),
        ("Board", _join(machine.board.vendor, machine.board.model)),
        ("System", _describe_system(machine)),
        ("CPU", _describe_processor(machine)),
        ("Instructions", _describe_instructions(machine.processor.instruction_sets)),
        ("Memory", _describe_memory(machine)),
        ("Disk", f"{format_bytes(machine.disk.free_bytes)} free of {format_bytes(machine.disk.total_bytes)}"),
    ]
    if machine.gpus is None:
        rows.append(("GPU", UNKNOWN))
    elif not machine.gpus:
        rows.append(("GPU", "none"))
    rows.extend(("GPU", _describe_gpu(gpu)) for gpu in machine.gpus or ())
    if machine.temperature_celsius is not None:
        rows.append(("Temperature", f"{machine.temperature_celsius:.0f} °C"))
    rows.append(("Largest model", _describe_fit(machine)))
    rows.extend(("Note", note) for note in machine.notes)
    return tuple(rows)


def _join(*words: str | None) -> str:
    """The known words, without one that the next already begins with."""
    known = [word for word in words if word]
    if len(known) == 2 and known[1].startswith(known[0]):
        known = known[1:]
    return " ".join(known) or UNKNOWN


def _describe_system(machine: Machine) -> str:
    system = machine.system
    name = _join(system.name or system.family)
    kernel = f", kernel {system.kernel}" if system.kernel else ""
    inside = f", in a container ({system.container})" if system.container not in (None, "none") else ""
    return name + kernel + inside


def _describe_processor(machine: Machine) -> str:
    processor = machine.processor
    parts = [_join(processor.model)]
    if processor.physical_cores is not None:
        parts.append(f"{processor.physical_cores} cores")
    if processor.threads is not None:
        parts.append(f"{processor.threads} threads")
    if processor.usable_threads is not None and processor.usable_threads != processor.threads:
        parts.append(f"{processor.usable_threads:g} of them for us")
    if processor.architecture is not None:
        parts.append(processor.architecture)
    return ", ".join(parts)


def _describe_instructions(instruction_sets: tuple[str, ...] | None) -> str:
    if instruction_sets is None:
        return UNKNOWN
    return " ".join(instruction_sets) or "none that llama.cpp uses"


def _describe_memory(machine: Machine) -> str:
    memory = machine.memory
    text = f"{format_bytes(memory.free_bytes)} free of {format_bytes(memory.total_bytes)}"
    if memory.limit_bytes is not None:
        text += f", limited to {format_bytes(memory.limit_bytes)}"
    return text + (f" ({memory.free_source})" if memory.free_source else "")


def _describe_gpu(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.memory_total_bytes is not None:
        source = f" ({gpu.memory_source})" if gpu.memory_source else ""
        parts.append(f"{format_bytes(gpu.memory_free_bytes)} free of {format_bytes(gpu.memory_total_bytes)}{source}")
    if gpu.is_integrated:
        parts.append("shares the CPU's memory")
    if gpu.backends is not None:
        parts.append(" ".join(gpu.backends) or "llama.cpp cannot use it here")
    if gpu.driver is not None:
        parts.append(f"driver {gpu.driver}")
    return ", ".join(parts)


def _describe_fit(machine: Machine) -> str:
    fit = largest(fitting(machine))
    if fit is None:
        return "none fits in what is free" if machine.memory.free_bytes is not None else UNKNOWN
    return f"{fit.size} at {fit.quantisation} on {fit.device} (needs {format_bytes(fit.needed_bytes)} with 8k context)"
