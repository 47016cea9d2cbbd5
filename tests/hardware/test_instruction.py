from mycoswarm.hardware.instruction import name_linux_flags, name_sysctl


def test_flags_that_llama_cpp_has_no_kernels_for_are_left_out() -> None:
    assert name_linux_flags({"sse2", "pni", "avx2", "sgx"}, is_arm=False) == ("SSE3", "AVX2")


def test_the_same_flag_means_nothing_on_the_other_architecture() -> None:
    assert name_linux_flags({"avx2"}, is_arm=True) == ()
    assert name_linux_flags({"sve"}, is_arm=False) == ()


def test_a_switch_that_is_off_does_not_count() -> None:
    assert name_sysctl({"hw.optional.neon": "1", "hw.optional.arm.FEAT_SME": "0"}) == ("NEON",)
