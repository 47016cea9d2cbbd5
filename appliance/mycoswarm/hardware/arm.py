"""Names of ARM cores: Linux gives numbers (CPU implementer and part of the MIDR register), people want names.

The numbers are those of Arm's and the other makers' technical reference manuals, MIDR_EL1, as Linux has
them in arch/arm64/include/asm/cputype.h. A number that is not here stays a number: it is never guessed.
"""

_ARM_LIMITED = {
    0xB76: "ARM1176",
    0xC07: "Cortex-A7",
    0xC08: "Cortex-A8",
    0xC09: "Cortex-A9",
    0xC0E: "Cortex-A17",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4B: "Cortex-A78C",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
    0xD84: "Neoverse-V3",
    0xD85: "Cortex-X925",
    0xD87: "Cortex-A725",
    0xD8E: "Neoverse-N3",
}
# Apple's cores under Linux (Asahi): efficiency and performance cores have their own part numbers.
_APPLE = {
    0x022: "Apple M1 Icestorm",
    0x023: "Apple M1 Firestorm",
    0x024: "Apple M1 Pro Icestorm",
    0x025: "Apple M1 Pro Firestorm",
    0x028: "Apple M1 Max Icestorm",
    0x029: "Apple M1 Max Firestorm",
    0x032: "Apple M2 Blizzard",
    0x033: "Apple M2 Avalanche",
    0x034: "Apple M2 Pro Blizzard",
    0x035: "Apple M2 Pro Avalanche",
    0x038: "Apple M2 Max Blizzard",
    0x039: "Apple M2 Max Avalanche",
}
_PARTS = {
    0x41: _ARM_LIMITED,
    0x61: _APPLE,
    0x46: {0x001: "A64FX"},
    0x4E: {0x004: "Carmel"},
    0x51: {0x001: "Oryon"},
    0xC0: {0xAC3: "Ampere-1", 0xAC4: "Ampere-1a"},
}
_IMPLEMENTERS = {
    0x41: "ARM",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x53: "Samsung",
    0x61: "Apple",
    0x6D: "Microsoft",
    0xC0: "Ampere",
}


def name_core(implementer: int | None, part: int | None) -> str | None:
    """ "Cortex-A76" for (0x41, 0xd0b); None for a pair that is not in the tables."""
    if implementer is None or part is None:
        return None
    return _PARTS.get(implementer, {}).get(part)


def name_implementer(implementer: int | None) -> str | None:
    """The maker behind the implementer number; None when unknown."""
    return None if implementer is None else _IMPLEMENTERS.get(implementer)
