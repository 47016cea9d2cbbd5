"""Who belongs, as the owner types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.socketed import Canned, answering
from mycoswarm.cli.enrol import wait_for_role
from mycoswarm.cli.entry import main
from mycoswarm.daemon.claim import claimed
from mycoswarm.swarm.identity import Identity


def offers(*codes: str) -> Canned:
    """Adoptions that wait here, under these codes."""
    waiting = [
        {"code": code, "name": "pi", "node_id": f"id{number}", "confirmed": False} for number, code in enumerate(codes)
    ]
    answer: dict[str, Any] = {"name": "attic", "pending": False}
    bodies = {"/api/adoptions": json.dumps({"adoptions": waiting}), "/api/adopt/answer": json.dumps(answer)}
    return Canned(bodies={path: text.encode() for path, text in bodies.items()})


def type_in(folder: Path, *words: str, lines: str = "") -> Result:
    """Run a command with what somebody types."""
    return CliRunner().invoke(main, ["--data", str(folder), *words], input=lines)


def answers(canned: Canned) -> list[Any]:
    """What was told to the daemon of adoptions."""
    return [json.loads(body) for _, path, body, _ in canned.asked if path == "/api/adopt/answer"]


def test_the_only_adoption_is_confirmed_by_comparing_its_code(tmp_path: Path) -> None:
    for typed, sure in (("y\n", True), ("n\n", False), ("\n", False)):
        canned = offers("123 456")
        with answering(tmp_path, canned):
            done = type_in(tmp_path, "adopt", lines=typed)
        assert done.exit_code == 0 and "123 456" in done.output
        assert answers(canned) == [{"code": "123 456", "accept": sure}]


def test_of_several_the_owner_types_the_code_so_that_false_offers_block_nothing(tmp_path: Path) -> None:
    canned = offers("123 456", "777 888")
    with answering(tmp_path, canned):
        done = type_in(tmp_path, "adopt", lines="777888\ny\n")
    assert done.exit_code == 0 and "123" not in done.output
    assert answers(canned) == [{"code": "777 888", "accept": True}]


@pytest.mark.parametrize("codes", [(), ("123 456", "777 888")])
def test_no_adoption_or_none_with_that_code_confirms_nothing(tmp_path: Path, codes: tuple[str, ...]) -> None:
    canned = offers(*codes)
    with answering(tmp_path, canned):
        assert type_in(tmp_path, "adopt", lines="111 222\n").exit_code == 3
    assert not answers(canned)


def test_init_without_a_daemon_founds_a_swarm_and_never_beside_one(tmp_path: Path) -> None:
    folder = tmp_path / "pi"
    with claimed(folder):  # a daemon that is just starting
        busy = type_in(folder, "init", "--name", "pi")
    assert busy.exit_code == 1 and not (folder / "node.json").exists()
    assert type_in(folder, "init", "--name", "pi").exit_code == 0
    identity = Identity.load_or_create(folder)
    assert (identity.name, identity.role) == ("pi", "coordinator")
    assert type_in(folder, "init").exit_code == 3


def test_a_role_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    with answering(tmp_path, Canned(body=b'{"role": "worker"}')) as call:
        wait_for_role(call, "worker")


def test_tags_are_put_on_and_taken_off_and_shown(tmp_path: Path) -> None:
    node = {"name": "attic", "role": "worker", "class": None, "tags": ["gpu", "quiet"], "free_memory_bytes": None}
    node |= {"round_trip_s": None, "models": [], "trouble": None, "is_this": False}
    told = {"nodes": [node], "candidates": [], "is_coordinator": True, "announced_s": None}
    bodies = {
        "/api/tags": {"name": "attic", "node_id": "id1", "tags": ["gpu", "quiet"]},
        "/api/nodes": told,
        "/api/node": {"role": "coordinator", "conditions": []},
    }
    canned = Canned(bodies={path: json.dumps(body).encode() for path, body in bodies.items()})
    with answering(tmp_path, canned):
        put = type_in(tmp_path, "nodes", "tag", "attic", "gpu", "quiet")
        type_in(tmp_path, "nodes", "untag", "attic", "slow")
        assert type_in(tmp_path, "nodes").exit_code == 0
        assert type_in(tmp_path, "nodes", "tag", "attic").exit_code == 2
    assert put.exit_code == 0
    asked = [json.loads(body) for _, path, body, _ in canned.asked if path == "/api/tags"]
    assert asked == [{"node": "attic", "add": ["gpu", "quiet"]}, {"node": "attic", "remove": ["slow"]}]


def test_expelling_and_leaving_ask_first(tmp_path: Path) -> None:
    canned = Canned()
    with answering(tmp_path, canned):
        assert type_in(tmp_path, "expel", "attic", lines="n\n").exit_code == 1
        assert type_in(tmp_path, "leave", lines="\n").exit_code == 1
    assert not canned.asked
