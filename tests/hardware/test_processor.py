from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.hardware.processor import UNKNOWN_PROCESSOR, parse_cpuinfo, parse_sysctl, read_processor
from mycoswarm.hardware.root import parse_table

ARM_LINES = "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: {part}\nFeatures\t: {flags}\n\n"
LINES = st.sampled_from(
    (
        "processor : 0",
        "flags : avx2 lm",
        "Features : asimd",
        "CPU implementer : 0x41",
        "CPU part : 0xd0b",
        "CPU part : zz",
        "core id : 1",
        "physical id : ",
        "model name : x",
        "vendor_id : y",
        "isa : rv64imafdcv",
        ":",
        "",
    )
)


@settings(deadline=None)
@given(st.text() | st.lists(LINES).map("\n".join))
def test_any_text_is_read_as_a_processor(text: str) -> None:
    processor = parse_cpuinfo(text)
    assert processor.threads is None or processor.threads > 0


@settings(deadline=None)
@given(st.text() | st.dictionaries(st.text(), st.text()).map(str))
def test_any_sysctl_output_is_read_as_a_processor(text: str) -> None:
    parse_sysctl(parse_table(text))


def test_nothing_to_read_is_unknown() -> None:
    assert parse_cpuinfo(None) == parse_cpuinfo("") == UNKNOWN_PROCESSOR


def test_only_instructions_that_every_core_has_are_listed() -> None:
    text = "processor: 0\n" + ARM_LINES.format(part="0xd05", flags="asimd asimddp")
    text += "processor: 1\n" + ARM_LINES.format(part="0xd0b", flags="asimd asimddp asimdhp")
    processor = parse_cpuinfo(text)
    assert processor.instruction_sets == ("NEON", "DOTPROD")
    assert processor.model == "Cortex-A76 + Cortex-A55"


def test_an_unknown_core_keeps_its_numbers() -> None:
    assert parse_cpuinfo("processor: 0\n" + ARM_LINES.format(part="0xfff", flags="fp")).model == "ARM part 0xfff"


def test_sve2_and_sme_count() -> None:
    text = "processor: 0\n" + ARM_LINES.format(part="0xd4f", flags="asimd asimddp sve sve2 sme i8mm bf16 asimdhp")
    expected = ("NEON", "DOTPROD", "FP16", "I8MM", "BF16", "SVE", "SVE2", "SME")
    assert parse_cpuinfo(text).instruction_sets == expected


def test_flags_that_are_not_listed_are_unknown_but_an_empty_list_is_known() -> None:
    assert parse_cpuinfo("processor: 0\nmodel name: x\n").instruction_sets is None
    assert parse_cpuinfo("processor: 0\nflags:\n").instruction_sets == ()


def test_a_riscv_board_is_named_by_its_core() -> None:
    processor = parse_cpuinfo("processor: 0\nisa: rv64imafdc\nuarch: sifive,u74-mc\n")
    assert (processor.model, processor.architecture) == ("sifive,u74-mc", "riscv64")


def test_an_intel_mac_lists_its_instructions() -> None:
    values = {
        "machdep.cpu.brand_string": "Intel(R) Core(TM) i7-8700B CPU @ 3.20GHz",
        "machdep.cpu.features": "FPU SSE3 SSSE3 FMA AVX1.0 F16C",
        "machdep.cpu.leaf7_features": "BMI2 AVX2",
        "hw.logicalcpu": "12",
        "hw.physicalcpu": "6",
    }
    processor = parse_sysctl(values)
    assert processor.instruction_sets == ("SSE3", "SSSE3", "AVX", "AVX2", "F16C", "FMA", "BMI2")
    assert (processor.vendor, processor.architecture, processor.threads) == ("Intel", "x86_64", 12)


def test_the_tightest_of_affinity_and_quota_decides_what_is_usable(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("".join(f"processor: {number}\n\n" for number in range(8)))
    (tmp_path / "proc/self/status").write_text("Cpus_allowed_list:\t0-1,6\n")
    assert read_processor(tmp_path, None).usable_threads == 3
    assert read_processor(tmp_path, 2.5).usable_threads == 2.5
