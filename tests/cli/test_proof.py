"""`ledger`, against canned answers."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cli.socketed import Canned, answering
from mycoswarm.api.refusal import error_body
from mycoswarm.base.errors import BusyError, StorageError
from mycoswarm.cli.entry import main

REQUEST = {
    "receipt": "0affc90c19e6442d7f4d071a",
    "at": 5.0,
    "key": None,
    "model": "spore",
    "model_digest": "d" * 64,
    "rule": "all",
    "ran": "LAN",
    "nodes": ["attic", "cellar"],
    "tries": 1,
    "outcome": "stop",
    "completion_tokens": 24,
    "seconds": 0.6,
    "layers_here": None,
}
CHAIN = {"event": "chain", "node": "attic", "node_id": "a", "rows": 7, "is_sound": True, "findings": [], "more": 0}
COMPARISON: dict[str, Any] = {
    "event": "comparison",
    "tickets": 4,
    "decisions": 2,
    "foreign": 0,
    "untraced": 0,
    "unchecked": 0,
    "findings": [],
    "more": 0,
}
VERDICT = {"event": "verdict", "is_sound": True, "checked": ["attic"], "not_checked": [], "compares": True}
PROGRESS = {"event": "progress", "node": "attic", "rows": 200}


def asked(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["--data", str(folder), "ledger", *words], env={"COLUMNS": "200"})


def lines(*told: object) -> Canned:
    return Canned(body=b"".join(json.dumps(one).encode() + b"\n" for one in told))


def test_a_list_goes_over_as_many_pages_as_it_takes(tmp_path: Path) -> None:
    def page(next_: int | None, count: int) -> bytes:
        return json.dumps({"requests": [REQUEST] * count, "next": next_}).encode()

    canned = Canned(body=page(None, 1), bodies={"/api/ledger?key=a+b&limit=4": page(9, 2)})
    canned.bodies["/api/ledger?key=a+b&limit=2&after=9"] = page(5, 0)
    with answering(tmp_path, canned):
        done = asked(tmp_path, "list", "--limit", "4", "--key", "a b", "--json")
    assert done.exit_code == 0 and json.loads(done.output) == [REQUEST] * 3
    assert [path for _, path, _, _ in canned.asked][-1] == "/api/ledger?key=a+b&limit=2&after=5"


def test_a_list_says_who_what_where_and_how_it_ended(tmp_path: Path) -> None:
    there = {**REQUEST, "model": None, "ran": None, "nodes": [], "tries": 0, "outcome": None, "layers_here": [0, 4]}
    altered = {**REQUEST, "at": 1e300}
    with answering(tmp_path, Canned(body=json.dumps({"requests": [REQUEST, there, altered], "next": None}).encode())):
        done = asked(tmp_path, "list")
    first, second, third = done.output.splitlines()[1:4]
    for shown in ("0affc90c", "owner", "spore", "all", "attic, cellar", "stop", "24", "0.6"):
        assert shown in first
    assert "layers [0, 4)" in second and "no end here" in second and "owner" not in second and "d" * 8 in second
    assert "at no time" in third


def test_rows_of_one_kind_are_listed_and_have_no_keys(tmp_path: Path) -> None:
    row = {"row": 7, "kind": "refused_ticket", "at": 1.0, "digest": "d" * 64, "has_prompt": False}
    row["body"] = {"why": "it is forged", "ticket": "x", "signature": "00"}
    canned = Canned(body=json.dumps({"rows": [row], "next": None}).encode())
    with answering(tmp_path, canned):
        done = asked(tmp_path, "list", "--kind", "refused_ticket")
        assert asked(tmp_path, "list", "--kind", "ticket", "--key", "desk").exit_code == 2
    assert done.exit_code == 0 and "row 7" in done.output and "why: it is forged" in done.output
    assert [path for _, path, _, _ in canned.asked] == ["/api/ledger?kind=refused_ticket&limit=20"]


def test_a_request_is_shown_row_by_row_and_its_prompt_only_when_asked_for(tmp_path: Path) -> None:
    row = {"row": 5, "kind": "decision", "at": 1.0, "digest": "d" * 64, "has_prompt": True}
    row["body"] = {
        "rule": "all",
        "asked": {"key": "desk", "labels": []},
        "nodes": [{"name": "attic", "layers": [0, 4]}],
    }
    damaged = {**row, "row": 6, "body": None, "has_prompt": False}
    told = {"receipt": "r" * 24, "node": "pi", "outcome": "stop", "rows": [row, damaged]}
    canned = Canned(body=json.dumps(told).encode())
    with answering(tmp_path, canned):
        done = asked(tmp_path, "show", "r/r?")
        asked(tmp_path, "show", "r", "--prompt")
    assert done.exit_code == 0
    for shown in ("asked.key: desk", "name=attic layers=0, 4", "`ledger show --prompt` shows it", "altered"):
        assert shown in done.output
    assert [path for _, path, _, _ in canned.asked] == ["/api/ledger/r%2Fr%3F", "/api/ledger/r?prompt=yes"]


def test_every_machine_that_could_have_read_a_prompt_is_named(tmp_path: Path) -> None:
    common = {"at": 5.0, "try": 1, "place": "LAN", "id": "a" * 32}
    readers = [
        {"what": "coordinator", "name": "pi", "at": 5.0, "id": "p" * 32, "place": "this-machine"},
        {**common, "what": "layers", "name": "attic", "layers": [0, 4]},
        {**common, "what": "endpoint", "name": "rack", "id": None, "was_reached": False},
        {**common, "what": "tool", "name": "shed", "tool": "search"},
    ]
    informed = [{"name": "cellar"}]
    told = {"receipt": "r1", "readers": readers, "informed": informed, "has_prompt": True, "notes": ["it is kept"]}
    with answering(tmp_path, Canned(body=json.dumps(told).encode())):
        done = asked(tmp_path, "exposure", "r1")
        assert json.loads(asked(tmp_path, "exposure", "r1", "--json").output) == told
    for shown in ("layers [0, 4)", "endpoint, not reached", "tool search", "cellar holds the model", "it is kept"):
        assert shown in done.output


def test_a_sound_verification_says_what_was_checked_and_ends_well(tmp_path: Path) -> None:
    left_out = {"event": "not_checked", "node": "shed", "node_id": "s", "why": "it is off"}
    remarks = {**COMPARISON, "untraced": 2, "unchecked": 3, "foreign": 4}
    with answering(tmp_path, lines(PROGRESS, CHAIN, left_out, remarks, VERDICT)):
        done = asked(tmp_path, "verify")
        told = json.loads(asked(tmp_path, "verify", "--json").stdout)
    assert done.exit_code == 0
    for shown in (
        "attic: 7 rows",
        "shed: not checked: it is off",
        "2 decisions left",
        "3 decisions name",
        "4 tickets are",
    ):
        assert shown in done.stdout
    assert told["is_sound"] and told["comparison"]["untraced"] == 2 and told["unanswered"][0]["node"] == "shed"


def test_each_finding_is_said_in_words_and_ends_with_status_1(tmp_path: Path) -> None:
    fault = {"kind": "changed", "first": 3, "last": 3, "words": "row 3 was changed\x1b[2J"}
    chain = {**CHAIN, "is_sound": False, "findings": [fault], "more": 2}
    finding = {"node": "attic", "row": 9, "words": "row 9 of attic is odd"}
    told = lines(chain, {**COMPARISON, "findings": [finding], "more": 1}, {**VERDICT, "is_sound": False})
    with answering(tmp_path, told):
        done = asked(tmp_path, "verify")
        assert asked(tmp_path, "verify", "--json").exit_code == 1
    assert done.exit_code == 1 and "\x1b" not in done.output
    for shown in ("NOT SOUND", "attic: row 3 was changed", "and 2 more", "row 9 of attic is odd", "NOT all as decided"):
        assert shown in done.output


def test_a_verification_that_breaks_off_is_no_good_news(tmp_path: Path) -> None:
    with answering(tmp_path, lines(PROGRESS, CHAIN)):
        assert asked(tmp_path, "verify").exit_code == 4
    with answering(tmp_path, lines(PROGRESS, error_body(BusyError("at it", retry_after_s=3)))):
        done = asked(tmp_path, "verify")
    assert done.exit_code == 1 and "at it" in done.output


ROWS = ({"seq": 1}, {"head": {"seq": 1}})


def test_an_export_goes_to_a_file_for_its_owner_alone_or_to_stdout(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    with answering(tmp_path, lines(*ROWS)):
        assert asked(tmp_path, "export", str(file)).exit_code == 0
        assert asked(tmp_path, "export").stdout.splitlines() == file.read_text().splitlines()
    assert [json.loads(line) for line in file.read_text().splitlines()] == list(ROWS)
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_export_that_failed_or_was_cut_off_says_so(tmp_path: Path) -> None:
    with answering(tmp_path, lines(ROWS[0], error_body(StorageError("the disk is gone")))):
        done = asked(tmp_path, "export", str(tmp_path / "x"))
    assert done.exit_code == 1 and "the disk is gone" in done.output
    with answering(tmp_path, lines(ROWS[0])):
        assert "no head" in asked(tmp_path, "export", str(tmp_path / "x")).stderr
    with answering(tmp_path, lines(*ROWS)):
        done = asked(tmp_path, "export", str(tmp_path / "no" / "such" / "folder"))
    assert done.exit_code == 1 and "cannot be written" in done.output
