from mycoswarm.hardware.arm import name_core, name_implementer


def test_the_pis_cores_have_their_names() -> None:
    assert [name_core(0x41, part) for part in (0xD03, 0xD08, 0xD0B)] == ["Cortex-A53", "Cortex-A72", "Cortex-A76"]


def test_a_number_that_is_not_known_is_not_guessed() -> None:
    assert name_core(0x41, 0x1) is None
    assert name_core(None, 0xD03) is None
    assert name_implementer(0x99) is None
