"""The CPU: its name, its cores, what a process here may use of them, and its instruction sets."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mycoswarm.hardware.arm import name_core, name_implementer
from mycoswarm.hardware.instruction import name_linux_flags, name_sysctl
from mycoswarm.hardware.root import clean, list_names, parse_number, parse_table, read_text, read_word

_VENDORS = {"GenuineIntel": "Intel", "AuthenticAMD": "AMD", "CentaurHauls": "VIA", "HygonGenuine": "Hygon"}


@dataclass(frozen=True, slots=True)
class Processor:
    """One machine's CPU. `usable_threads` is what affinity and cgroup quota leave of `threads`, so 1.5 is possible.

    `instruction_sets` holds only those that llama.cpp has kernels for, and only those that every core has;
    None when the system does not list its flags, () when it lists none of them.
    """

    model: str | None
    vendor: str | None
    architecture: str | None
    physical_cores: int | None
    threads: int | None
    usable_threads: float | None
    instruction_sets: tuple[str, ...] | None


UNKNOWN_PROCESSOR = Processor(None, None, None, None, None, None, None)


def read_processor(root: Path, quota_threads: float | None) -> Processor:
    """Read the CPU of a Linux root. `quota_threads` is the cgroup's CPU limit, None for no limit."""
    found = parse_cpuinfo(read_text(root, "proc/cpuinfo"))
    siblings = _read_siblings(root)
    status = parse_table(read_text(root, "proc/self/status"))
    bounds = [found.threads, _count_list(status.get("Cpus_allowed_list")), quota_threads]
    known = [float(bound) for bound in bounds if bound is not None]
    return Processor(
        model=found.model,
        vendor=found.vendor,
        architecture=found.architecture,
        physical_cores=found.physical_cores if found.physical_cores is not None else siblings,
        threads=found.threads,
        usable_threads=min(known) if known else None,
        instruction_sets=found.instruction_sets,
    )


def parse_cpuinfo(text: str | None) -> Processor:
    """Read /proc/cpuinfo of x86, ARM (32 and 64 bit) and, by name only, RISC-V. Total: anything gives a Processor."""
    blocks = _split_blocks(text)
    if not blocks:
        return UNKNOWN_PROCESSOR
    flags = _shared_flags(blocks)
    first = blocks[0]
    is_arm = any("CPU implementer" in block or "Features" in block for block in blocks)
    return Processor(
        model=_name_arm(blocks) if is_arm else clean(first.get("model name") or first.get("uarch")),
        vendor=_name_vendor(first),
        architecture=_name_architecture(first, flags, is_arm=is_arm),
        physical_cores=_count_cores(blocks),
        threads=len(blocks),
        usable_threads=float(len(blocks)),
        instruction_sets=None if flags is None else name_linux_flags(flags, is_arm=is_arm),
    )


def parse_sysctl(values: Mapping[str, str]) -> Processor:
    """Read the CPU of a Mac from sysctl's values. Total, like `parse_cpuinfo`."""
    model = clean(values.get("machdep.cpu.brand_string"))
    is_arm = values.get("hw.optional.arm64") == "1"
    vendor = "Apple" if model and model.startswith("Apple") else "Intel" if model and "Intel" in model else None
    threads = _positive(values.get("hw.logicalcpu"))
    return Processor(
        model=model,
        vendor=vendor,
        architecture="aarch64" if is_arm else "x86_64" if vendor == "Intel" else None,
        physical_cores=_positive(values.get("hw.physicalcpu")),
        threads=threads,
        usable_threads=None if threads is None else float(threads),
        instruction_sets=name_sysctl(values) if model else None,
    )


def _split_blocks(text: str | None) -> list[dict[str, str]]:
    """One dict per logical CPU; the lines before the first "processor" and after the last block count to none."""
    blocks: list[dict[str, str]] = []
    current: dict[str, str] | None = None
    for line in (text or "").splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if colon and key == "processor":
            current = {}
            blocks.append(current)
        elif not line.strip():
            current = None
        elif colon and current is not None:
            current[key] = value
    return blocks


def _shared_flags(blocks: Sequence[Mapping[str, str]]) -> frozenset[str] | None:
    """The flags that every core has: a thread of llama.cpp may run on any of them."""
    lists = [block.get("flags", block.get("Features")) for block in blocks]
    known = [frozenset(flags.split()) for flags in lists if flags is not None]
    return frozenset.intersection(*known) if known else None


def _name_arm(blocks: Sequence[Mapping[str, str]]) -> str | None:
    """ "Cortex-A76 + Cortex-A55"; the kernel's own "model name" is only "ARMv7 Processor rev 4" and comes last."""
    names: list[str] = []
    for block in blocks:
        implementer, part = parse_number(block.get("CPU implementer")), parse_number(block.get("CPU part"))
        name = name_core(implementer, part)
        if name is None and implementer is not None and part is not None:
            name = f"{name_implementer(implementer) or hex(implementer)} part {part:#05x}"
        if name is not None and name not in names:
            names.append(name)
    return clean(" + ".join(reversed(names))) or clean(blocks[0].get("model name"))


def _name_vendor(block: Mapping[str, str]) -> str | None:
    identity = block.get("vendor_id")
    if identity is not None:
        return _VENDORS.get(identity, clean(identity))
    return name_implementer(parse_number(block.get("CPU implementer")))


def _name_architecture(block: Mapping[str, str], flags: frozenset[str] | None, *, is_arm: bool) -> str | None:
    isa = block.get("isa", "")
    if isa.startswith(("rv32", "rv64")):
        return "riscv" + isa[2:4]
    if flags is None:
        return None
    if is_arm:
        return "aarch64" if "asimd" in flags else "arm"
    return "x86_64" if "lm" in flags else "x86"


def _count_cores(blocks: Sequence[Mapping[str, str]]) -> int | None:
    """Physical cores on x86, where cpuinfo names them; ARM's cpuinfo does not."""
    pairs = {(block.get("physical id", "0"), block["core id"]) for block in blocks if "core id" in block}
    return len(pairs) or None


def _read_siblings(root: Path) -> int | None:
    """Physical cores as the number of different sibling lists in /sys."""
    folder = "sys/devices/system/cpu"
    names = [name for name in list_names(root, folder) if re.fullmatch(r"cpu[0-9]+", name)]
    lists = {read_word(root, f"{folder}/{name}/topology/thread_siblings_list") for name in names} - {None}
    return len(lists) or None


def _count_list(text: str | None) -> int | None:
    """How many CPUs "0-3,8" names; None when it is not such a list."""
    total = 0
    for part in (text or "").split(","):
        found = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", part.strip())
        if found is None:
            return None
        total += int(found[2] or found[1]) - int(found[1]) + 1
    return total if total > 0 else None


def _positive(text: str | None) -> int | None:
    number = parse_number(text)
    return number if number is not None and number > 0 else None
