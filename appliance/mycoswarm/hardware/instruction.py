"""The CPU instruction sets that llama.cpp has kernels for, by the names that its own feature list uses.

The list is the one of ggml's CPU back end (ggml/src/ggml-cpu: the variants and
`ggml_backend_cpu_get_features`); the left column of each table is what the system calls the flag.
"""

from collections.abc import Collection, Mapping

# Linux: arch/x86/include/asm/cpufeatures.h ("pni" is Prescott New Instructions, today SSE3).
_X86 = {
    "pni": "SSE3",
    "ssse3": "SSSE3",
    "avx": "AVX",
    "avx2": "AVX2",
    "f16c": "F16C",
    "fma": "FMA",
    "bmi2": "BMI2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX512F",
    "avx512bw": "AVX512BW",
    "avx512vl": "AVX512VL",
    "avx512vbmi": "AVX512VBMI",
    "avx512_vnni": "AVX512VNNI",
    "avx512_bf16": "AVX512BF16",
    "amx_tile": "AMX-TILE",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
}
# Linux: Documentation/arch/arm64/elf_hwcaps.rst; 32-bit kernels write "neon" for "asimd".
_ARM = {
    "asimd": "NEON",
    "neon": "NEON",
    "asimddp": "DOTPROD",
    "asimdhp": "FP16",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
    "sve2": "SVE2",
    "sme": "SME",
}
# macOS: `sysctl hw.optional`, named after Arm's feature register names.
_APPLE = {
    "hw.optional.neon": "NEON",
    "hw.optional.AdvSIMD": "NEON",
    "hw.optional.arm.AdvSIMD": "NEON",
    "hw.optional.arm.FEAT_DotProd": "DOTPROD",
    "hw.optional.arm.FEAT_FP16": "FP16",
    "hw.optional.arm.FEAT_I8MM": "I8MM",
    "hw.optional.arm.FEAT_BF16": "BF16",
    "hw.optional.arm.FEAT_SME": "SME",
}
# macOS on Intel: the words of `sysctl machdep.cpu.features machdep.cpu.leaf7_features`.
_INTEL_MAC = {
    "SSE3": "SSE3",
    "SSSE3": "SSSE3",
    "AVX1.0": "AVX",
    "AVX2": "AVX2",
    "F16C": "F16C",
    "FMA": "FMA",
    "BMI2": "BMI2",
    "AVX512F": "AVX512F",
    "AVX512BW": "AVX512BW",
    "AVX512VL": "AVX512VL",
    "AVX512VBMI": "AVX512VBMI",
    "AVX512VNNI": "AVX512VNNI",
}


def name_linux_flags(flags: Collection[str], *, is_arm: bool) -> tuple[str, ...]:
    """The instruction sets behind the flags of /proc/cpuinfo, oldest first."""
    return _pick(_ARM if is_arm else _X86, flags)


def name_sysctl(values: Mapping[str, str]) -> tuple[str, ...]:
    """The instruction sets behind macOS's sysctl values, for Apple's and Intel's processors."""
    words = f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}".split()
    switches = [key for key, value in values.items() if value == "1"]
    return _pick(_INTEL_MAC, words) + _pick(_APPLE, switches)


def _pick(names: Mapping[str, str], flags: Collection[str]) -> tuple[str, ...]:
    have = set(flags)
    return tuple(dict.fromkeys(name for flag, name in names.items() if flag in have))
