"""What docs/tools.md says of tools, rules and bounds is so."""

import re
import tomllib
from pathlib import Path

from mycoswarm.routing.reach import HARMLESS
from mycoswarm.routing.rule import RuleSet, read_rule
from mycoswarm.routing.shadow import shadows
from mycoswarm.sandbox.command import DEFAULT_S, MAX_OUTPUT_BYTES
from mycoswarm.sandbox.jail import MAX_ENTRIES, MAX_FOLDER_BYTES, MAX_TOGETHER_BYTES
from mycoswarm.sandbox.runner import Bounds
from mycoswarm.sandbox.toolset import TOOLS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")


def test_every_block_of_rules_is_sound_and_none_hides_another() -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        rules = tuple(read_rule(data) for data in tomllib.loads(block)["rule"])
        assert not shadows(rules) and RuleSet.of(rules).ready


def test_every_tool_is_in_the_table_with_its_arguments_and_whether_it_asks() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([^|]*)\| .* \| ([^|]*) \| ([^|]*) \|$", PAGE, re.MULTILINE)
    assert {name for name, *_ in table} == set(TOOLS)
    for name, arguments, where, asks in table:
        tool = TOOLS[name]
        assert re.findall(r"`(\w+)`", arguments) == list(tool.spec.parameters["properties"]), name
        assert ("sandbox" in where, "coordinator" in where) == (tool.where == "sandbox", tool.where == "coordinator")
        assert asks.startswith("no") is (name in HARMLESS)


def test_the_bounds_are_those_of_the_code() -> None:
    bounds = Bounds()
    assert f"{bounds.processes} processes" in PAGE and f"{bounds.file_bytes >> 20} MiB for a file" in PAGE
    assert bounds.memory_bytes == MAX_TOGETHER_BYTES == 1 << 30 and "1 GiB of addresses for each and 1 GiB" in PAGE
    assert f"{MAX_OUTPUT_BYTES >> 10} KiB of output" in PAGE and f"left out: {DEFAULT_S})" in PAGE
    assert f"at most {MAX_FOLDER_BYTES >> 20} MiB and {MAX_ENTRIES:,} files" in PAGE
    assert f"at most {max(int(tool.within_s) for tool in TOOLS.values())}" in PAGE
