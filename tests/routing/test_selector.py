"""Conditions on what a node says of itself."""

import pytest

from mycoswarm.routing.selector import FACTS, FactCheck, read_fact
from mycoswarm.routing.snapshot import Fact, NodeState


def node(**facts: Fact) -> NodeState:
    return NodeState("id", "n", "LAN", 1, 1.0, 0.001, facts=facts)


def meets(text: str, **facts: Fact) -> bool:
    check = read_fact(text)
    assert isinstance(check, FactCheck), text
    return check.fault(node(**facts)) is None


GIB = 1 << 30


@pytest.mark.parametrize(
    ("text", "value", "is_met"),
    [
        ("vram_bytes >= 24GiB", 24 * GIB, True),
        ("vram_bytes >= 24GiB", 24 * GIB - 1, False),
        ("vram_bytes>=24 GiB", 24 * GIB, True),
        ("vram_bytes > 24GiB", 24 * GIB, False),
        ("vram_bytes < 24GB", 24 * 10**9, False),
        ("vram_bytes <= 24GB", 24 * 10**9, True),
        ("vram_bytes = 1kB", 1000, True),
        ("vram_bytes != 1KiB", 1024, False),
        ("vram_bytes >= 1.5MiB", 1572864, True),
        ("memory_bytes >= 1e3 B", 1000, True),
        ("free_bytes >= 1TiB", 1 << 40, True),
        ("bytes_per_s >= 50GB/s", 50e9, True),
        ("bytes_per_s >= 50GB", 49e9, False),
        ("round_trip_s <= 5ms", 0.005, True),
        ("round_trip_s <= 5ms", 0.0051, False),
        ("round_trip_s < 1s", 0.9, True),
        ("cores >= 4", 4, True),
        ("cores = 4", 4.0, True),
        ("class = GPU worker", "gpu worker", True),
        ("class = GPU worker", "GPU", False),
        ("class != GPU worker", "Pi", True),
        ("board = Raspberry Pi 5", "Raspberry Pi 5", True),
        ("gpu = yes", True, True),
        ("gpu = false", True, False),
        ("gpu = no", False, True),
    ],
)
def test_a_fact_is_compared_in_its_unit(text: str, value: Fact, is_met: bool) -> None:
    assert meets(text, **{text.split(maxsplit=1)[0].rstrip("<>=!").split(">")[0]: value}) == is_met


@pytest.mark.parametrize("text", ["cores >= 0", "class != x", "gpu = false", "vram_bytes <= 1TiB", "cores != 3"])
def test_what_is_unknown_meets_no_condition(text: str) -> None:
    check = read_fact(text)
    assert check is not None and "unknown" in (check.fault(node()) or "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("cores >= 1", True),
        ("cores >= 1", "8"),
        ("cores != 1", "8"),
        ("gpu = true", 1),
        ("gpu = true", "true"),
        ("class != x", 7),
        ("cores >= 1", float("nan")),
        ("cores != 1", float("nan")),
        ("cores >= 1", 10**400),
        ("bytes_per_s > 1GB/s", float("inf")),
    ],
)
def test_a_value_of_the_wrong_kind_meets_no_condition(text: str, value: Fact) -> None:
    assert not meets(text, **{text.split(maxsplit=1)[0]: value})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vram_bytes",
        "vram_bytes >= ",
        "vram_bytes >= 24",  # 24 bytes are never meant
        "vram_bytes >= 24ms",
        "vram_bytes >= 24 gib",
        "vram_bytes >= 24Gb",
        "vram_bytes >= -1GiB",
        "vram_bytes >= nan B",
        "vram_bytes >= ٢GiB",
        "vram_bytes => 24GiB",
        "vram_bytes == 24GiB",
        "round_trip_s <= 5",
        "round_trip_s <= 5GiB",
        "cores >= 4GiB",
        "cores >= 4s",
        "class == Pi",
        "class >= Pi",
        "class !== Pi",
        "class = ",
        "gpu != true",
        "gpu = maybe",
        "price < 3",
        "__class__ = x",
        "class = " + "x" * 81,
        "class = a\nb",
    ],
)
def test_what_is_no_condition_is_none(text: str) -> None:
    assert read_fact(text) is None


def test_every_fact_can_be_asked_for() -> None:
    values = {"class": "= x", "board": "= x", "system": "= x", "architecture": "= x", "gpu": "= true", "cores": "> 1"}
    for name in FACTS:
        unit = "5ms" if name == "round_trip_s" else "5GiB"
        assert read_fact(f"{name} {values.get(name, f'>= {unit}')}") is not None


def test_the_words_name_the_fact_and_the_condition() -> None:
    check = read_fact(" cores >= 8 ")
    assert check is not None
    assert check.fault(node(cores=4)) == "its cores is 4, and the rule wants cores >= 8"


def test_what_a_node_says_reaches_no_terminal_as_it_is() -> None:
    check = read_fact("class = Pi")
    assert check is not None
    why = check.fault(node(**{"class": "\x1b[2J" + "x" * 1000})) or ""
    assert "\x1b" not in why and len(why) < 200
