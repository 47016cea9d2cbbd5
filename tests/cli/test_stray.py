"""What rules name and the swarm does not have is said, and hinders nothing."""

import json
from pathlib import Path

import pytest

from cli.socketed import Canned, answering
from mycoswarm.cli.call import Call
from mycoswarm.cli.stray import warn

NODES = {"nodes": [{"name": "tower", "node_id": "id1", "tags": ["gpu"]}]}
ENDPOINTS = {"endpoints": [{"name": "vllm"}]}
SWARM = {"/api/nodes": json.dumps(NODES).encode(), "/api/endpoints": json.dumps(ENDPOINTS).encode()}
GOOD = {
    "name": "good",
    "then": {"do": "ask", "then": {"do": "external", "name": "vllm"}},
    "fallback": [{"do": "run", "nodes": ["id1"], "prefer": ["tower"], "tags": ["gpu"]}],
}
BAD = {
    "name": "bad",
    "then": {"do": "ask", "then": {"do": "external", "name": "vlm"}},
    "fallback": [{"do": "run", "nodes": ["towr", "towr"], "tags": ["gpus"]}],
}


def test_only_names_that_nothing_answers_to_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(tmp_path, Canned(bodies=SWARM)) as call:
        warn(call, [GOOD, {"name": "anywhere", "then": {"do": "run"}}])
        assert capsys.readouterr().err == ""
        warn(call, [GOOD, BAD])
    said = capsys.readouterr().err
    assert [word in said for word in ("endpoint vlm,", "node towr,", "tag gpus,")] == [True] * 3
    assert len(said.splitlines()) == 3 and "good" not in said


def test_a_rule_without_names_asks_nobody_and_trouble_in_asking_is_no_error(tmp_path: Path) -> None:
    canned = Canned(bodies=SWARM)
    with answering(tmp_path, canned) as call:
        warn(call, [{"name": "anywhere", "then": {"do": "run"}}, {"name": "never", "then": {"do": "deny"}}])
    assert not canned.asked
    warn(Call(tmp_path / "gone"), [BAD])
