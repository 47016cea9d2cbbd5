from mycoswarm.hardware.gpu import Gpu, find_vendor, merge_cards, merge_gpus
from mycoswarm.hardware.listing import Device

RTX = "NVIDIA GeForce RTX 3090"


def card(name: str, vendor: str | None, address: str | None = None, total: int | None = None) -> Gpu:
    return Gpu(name, vendor, total, total, None, None, None, address)


def device(description: str, backend: str, kind: str = "gpu", address: str | None = None, total: int = 7) -> Device:
    return Device(f"{backend}0", description, kind, backend, total, total, address)


def test_a_card_seen_by_every_source_is_one_gpu() -> None:
    bus = [card("NVIDIA PCI device 10de:2204", "NVIDIA", "0000:01:00.0")]
    cards = merge_cards(bus, [card(RTX, "NVIDIA", "0000:01:00.0", total=24)])
    gpus = merge_gpus(cards, [device(RTX, "CUDA", address="0000:01:00.0"), device(RTX, "Vulkan")])
    assert [(gpu.name, gpu.memory_total_bytes, gpu.backends) for gpu in gpus] == [(RTX, 24, ("CUDA", "Vulkan"))]


def test_two_equal_cards_without_addresses_stay_two() -> None:
    cards = [card(RTX, "NVIDIA", "0000:01:00.0"), card(RTX, "NVIDIA", "0000:02:00.0")]
    gpus = merge_gpus(cards, [device(RTX, "Vulkan"), device(RTX, "Vulkan")])
    assert [gpu.backends for gpu in gpus] == [("Vulkan",), ("Vulkan",)]


def test_addresses_decide_before_order() -> None:
    cards = [card(RTX, "NVIDIA", "0000:01:00.0"), card(RTX, "NVIDIA", "0000:02:00.0")]
    gpus = merge_gpus(cards, [device(RTX, "CUDA", address="0000:02:00.0")])
    assert [gpu.backends for gpu in gpus] == [(), ("CUDA",)]


def test_a_device_at_another_address_is_another_gpu() -> None:
    gpus = merge_gpus([card(RTX, "NVIDIA", "0000:01:00.0")], [device(RTX, "CUDA", address="0000:09:00.0")])
    assert len(gpus) == 2


def test_the_drivers_name_in_brackets_does_not_matter() -> None:
    cards = [card("Radeon RX 7900 XTX", "AMD")]
    gpus = merge_gpus(cards, [device("AMD Radeon RX 7900 XTX (RADV NAVI31)", "Vulkan"), device(RTX, "Vulkan")])
    assert [gpu.vendor for gpu in gpus] == ["AMD", "NVIDIA"]


def test_shared_memory_is_taken_from_llama_cpp_and_not_from_the_firmwares_part() -> None:
    carved = card("AMD PCI device 1002:164e", "AMD", "0000:0d:00.0", total=512)
    (gpu,) = merge_gpus([carved], [device("AMD Radeon Graphics", "Vulkan", "igpu", "0000:0d:00.0", total=32768)])
    assert (gpu.memory_total_bytes, gpu.is_integrated, gpu.name) == (32768, True, "AMD Radeon Graphics")


def test_an_apple_gpu_shares_memory_though_metal_does_not_say_so() -> None:
    (gpu,) = merge_gpus([], [device("Apple M2", "Metal")])
    assert (gpu.vendor, gpu.is_integrated, gpu.backends) == ("Apple", True, ("Metal",))


def test_back_ends_are_unknown_when_llama_cpp_could_not_be_asked() -> None:
    assert [gpu.backends for gpu in merge_gpus([card(RTX, "NVIDIA")], None)] == [None]
    assert [gpu.backends for gpu in merge_gpus([card(RTX, "NVIDIA")], [])] == [()]


def test_the_cpu_and_helpers_of_the_cpu_are_no_gpus() -> None:
    assert merge_gpus([], [device("x", "CPU", "cpu"), device("x", "BLAS", "accel"), device("llvmpipe", "Vulkan")]) == ()


def test_a_card_that_only_nvml_sees_is_kept() -> None:
    alone = card(RTX, "NVIDIA", "0000:01:00.0")
    assert merge_cards([], [alone]) == (alone,)
    assert merge_cards([alone], []) == (alone,)


def test_a_maker_that_is_not_named_is_unknown() -> None:
    assert find_vendor("Adreno 740") == "Qualcomm"
    assert find_vendor("Graphics 9000") is None
