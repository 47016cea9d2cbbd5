"""`models pull`, `load`, `unload` and `fit`, against canned answers."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from cli.socketed import Canned, answering
from mycoswarm.api.refusal import error_body
from mycoswarm.base.errors import BusyError, CapacityError, ModelFileError
from mycoswarm.cli.entry import main
from mycoswarm.cli.freight import placed

STAGES = [{"node": "attic", "layers": [0, 3]}, {"node": "cellar", "layers": [3, 8]}]
DECIDED = {"rule": "all", "reason": "it fits", "stages": STAGES, "predicted_tokens_per_s": 12.34, "note": ""}
LOADED = {"event": "loaded", "model": "big", "ring_id": "r", **DECIDED}
FIT = {
    "model": "big",
    "needed_bytes": 3 << 30,
    "nodes": [
        {"name": "attic", "place": "LAN", "free_bytes": 4 << 30, "usable_bytes": 2 << 30, "fits_whole": False}
        | {"predicted_tokens_per_s": None, "reason": "chosen"},
    ],
    "decision": {"allowed": True, "rule": "all", "reason": "it fits no allowed node whole", "stages": STAGES}
    | {"predicted_tokens_per_s": 12.34, "nodes": [{"name": "attic", "chosen": True, "reason": "chosen"}]},
    "measured": [{"stages": STAGES, "decode_tokens_per_s": 11.06, "is_loaded": False}],
}


def typed(folder: Path, canned: Canned, *words: str) -> Result:
    with answering(folder, canned):
        return CliRunner().invoke(main, ["--data", str(folder), "models", *words], env={"COLUMNS": "200"})


def lines(*told: object) -> Canned:
    return Canned(body=b"".join(json.dumps(one).encode() + b"\n" for one in told))


def test_loading_says_where_by_which_rule_and_how_fast(tmp_path: Path) -> None:
    progress = {"event": "loading", "nodes": [{"node": "attic", "what": "x", "done_bytes": 1, "total_bytes": 2}]}
    canned = lines({"event": "decided", **DECIDED}, {"event": "loading", "nodes": []}, progress, LOADED)
    done = typed(tmp_path, canned, "load", "a/b", "--route", "split", "--label", "private")
    assert done.exit_code == 0, done.output
    assert "big is loaded on attic [0, 3), cellar [3, 8). Rule: all." in done.output and "12.3 tokens/s" in done.output
    method, path, _, headers = canned.asked[0]
    assert (method, path) == ("POST", "/api/models/a%2Fb/load")
    assert headers["x-mycoswarm-route"] == "split" and headers["x-mycoswarm-labels"] == "private"


def test_a_loading_that_fails_or_breaks_off_is_an_error(tmp_path: Path) -> None:
    done = typed(tmp_path, lines(error_body(CapacityError("no node has the memory"))), "load", "big")
    assert done.exit_code == 1 and "no node has the memory" in done.output
    assert typed(tmp_path, lines({"event": "decided", **DECIDED}), "load", "big").exit_code == 4


def test_unloading_says_what_is_free_again(tmp_path: Path) -> None:
    done = typed(
        tmp_path, Canned(body=json.dumps({"model": "big", "rings": [{"stages": STAGES}]}).encode()), "unload", "big"
    )
    assert done.exit_code == 0 and "big has left attic [0, 3), cellar [3, 8)." in done.output
    error = json.dumps(error_body(BusyError("2 requests use this model now", retry_after_s=1))).encode()
    assert typed(tmp_path, Canned(status=429, body=error), "unload", "big").exit_code == 1


def test_where_it_fits_is_a_table_the_decision_and_what_was_measured(tmp_path: Path) -> None:
    done = typed(tmp_path, Canned(body=json.dumps(FIT).encode()), "fit", "big")
    assert done.exit_code == 0, done.output
    for words in (
        "needs 3.0 GiB",
        "2.0 GiB",
        "It would run on attic layers [0, 3)",
        "Measured: 11.1 tokens/s on attic",
    ):
        assert words in done.output
    assert json.loads(typed(tmp_path, Canned(body=json.dumps(FIT).encode()), "fit", "big", "--json").output) == FIT


MODEL = {"name": "tiny", "architecture": "llama", "layers": 4, "file_bytes": 1000, "digest": "ab12", "splittable": True}


def test_a_pull_tells_what_came_and_whether_it_was_promised(tmp_path: Path) -> None:
    going = [{"phase": phase, "done_bytes": 1, "total_bytes": 2} for phase in ("fetching", "checking")]
    canned = lines(*going, {"model": MODEL, "is_checked": True})
    done = typed(tmp_path, canned, "pull", "hf:o/r/tiny.gguf", "--name", "tiny")
    assert done.exit_code == 0 and "SHA-256 ab12, as promised." in done.output
    assert json.loads(canned.asked[0][2]) == {"source": "hf:o/r/tiny.gguf", "name": "tiny"}
    whole = {**MODEL, "splittable": False, "split_reason": "it is not listed"}
    done = typed(tmp_path, lines({"model": whole, "is_checked": False}), "pull", "https://a.example/tiny.gguf")
    assert "nobody had promised" in done.output and "it is not listed" in done.output


def test_a_pull_that_fails_or_breaks_off_is_an_error(tmp_path: Path) -> None:
    going = {"phase": "fetching", "done_bytes": 1, "total_bytes": 2}
    wrong = error_body(ModelFileError("its SHA-256 is another", code="wrong_hash"))
    done = typed(tmp_path, lines(going, wrong), "pull", "hf:o/r/tiny.gguf")
    assert done.exit_code == 1 and "its SHA-256 is another" in done.output
    done = typed(tmp_path, lines(going), "pull", "hf:o/r/tiny.gguf")
    assert done.exit_code == 4 and "goes on there" in done.output


def test_layers_on_one_node_are_said_as_a_whole() -> None:
    assert placed([{"node": "attic", "layers": [0, 8]}]) == "attic (all 8 layers)"
