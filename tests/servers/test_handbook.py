"""What docs/mcp.md says of bounds is so."""

from pathlib import Path

from mycoswarm.daemon.broker import CALL_S
from mycoswarm.sandbox.guest import Program
from mycoswarm.sandbox.jail import MAX_TOGETHER_BYTES, STAYING
from mycoswarm.servers.hostel import USUAL
from mycoswarm.servers.intake import MAX_BYTES, MAX_LINE_BYTES, MAX_LINES
from mycoswarm.servers.ware import MAX_DEPTH, MAX_DESCRIPTION, MAX_SCHEMA, MAX_WARES, MAX_WHOLE_NAME, TOLD_CHARACTERS
from mycoswarm.store.supplier import MAX_SUPPLIERS
from mycoswarm.wire.chore import MAX_TEXT

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")


def test_the_bounds_are_those_of_the_code() -> None:
    assert f"at most {MAX_WHOLE_NAME}\n  characters" in PAGE and f"longer than {MAX_DESCRIPTION} characters" in PAGE
    assert f"larger than {MAX_SCHEMA >> 10} KiB or\n  nested more than {MAX_DEPTH} deep" in PAGE
    assert f"at most {MAX_WARES} tools; there are at most {MAX_SUPPLIERS} servers" in PAGE
    assert f"{TOLD_CHARACTERS} characters at most" in PAGE
    assert f"for {USUAL.idle_s / 60:.0f} minutes" in PAGE and f"| {USUAL.stays} at once" in PAGE
    assert f"| {CALL_S:.0f} seconds, the start included" in PAGE
    assert f"{MAX_LINE_BYTES >> 20} MiB a line, {MAX_BYTES >> 20} MiB and {MAX_LINES} lines" in PAGE
    assert f"{MAX_TEXT >> 10} Ki characters" in PAGE
    assert MAX_TOGETHER_BYTES == Program(()).data_bytes == 1 << 30
    assert f"{STAYING.cpu_s} processor seconds, {STAYING.processes} processes" in PAGE
