"""`models` and `keys`, against canned answers."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.socketed import Canned, answering
from mycoswarm.api.refusal import error_body
from mycoswarm.base.errors import ModelFileError, SwarmError, UnreachableError
from mycoswarm.cli.entry import main
from mycoswarm.cli.things import upload

MODEL = {"name": "tiny", "architecture": "llama", "layers": 4, "file_bytes": 1000, "splittable": True}

DESK = {
    "name": "desk",
    "made_at": 0.0,
    "used_at": None,
    "labels": ["private", "a"],
    "user": "ana",
    "is_owner": True,
    "requests_per_minute": 5,
    "tokens_per_day": 7000,
}


def lines(*told: object) -> Canned:
    """JSON lines as the daemon sends them."""
    return Canned(body=b"".join(json.dumps(one).encode() + b"\n" for one in told))


def test_a_file_is_put_on_the_shelf_under_its_absolute_path(tmp_path: Path) -> None:
    canned = lines({"done_bytes": 1, "total_bytes": 2}, {"model": MODEL})
    with answering(tmp_path, canned) as call:
        assert upload(call, tmp_path / "tiny.gguf", "tiny") == MODEL
    assert json.loads(canned.asked[0][2]) == {"path": str(tmp_path / "tiny.gguf"), "name": "tiny"}


def test_what_is_wrong_with_a_file_is_raised(tmp_path: Path) -> None:
    canned = lines({"done_bytes": 1, "total_bytes": 2}, error_body(ModelFileError("no sound file")))
    with answering(tmp_path, canned) as call, pytest.raises(SwarmError, match="no sound file") as caught:
        upload(call, tmp_path / "bad.gguf")
    assert caught.value.code == "bad_model_file"


def test_a_daemon_that_stops_in_between_is_an_error(tmp_path: Path) -> None:
    with answering(tmp_path, lines({"done_bytes": 1, "total_bytes": 2})) as call, pytest.raises(UnreachableError):
        upload(call, tmp_path / "tiny.gguf")


@pytest.mark.parametrize("name", ["two words", "a/b", "ü", "?x=1", "a%2Fb"])
def test_any_name_reaches_the_daemon_as_one_name(tmp_path: Path, name: str) -> None:
    canned = Canned()
    with answering(tmp_path, canned):
        for what in (("models", "remove"), ("keys", "revoke")):
            assert CliRunner().invoke(main, ["--data", str(tmp_path), *what, name]).exit_code == 0
    for method, path, _, _ in canned.asked:
        assert method == "DELETE" and path.isascii() and path.count("/") == 3 and " " not in path and "?" not in path


def test_lists_are_json_where_a_script_asks(tmp_path: Path) -> None:
    with answering(tmp_path, Canned(body=json.dumps({"keys": [DESK]}).encode())):
        done = CliRunner().invoke(main, ["--data", str(tmp_path), "keys", "list", "--json"])
    assert json.loads(done.output) == [DESK]


def test_a_key_is_listed_with_all_that_it_may_do(tmp_path: Path) -> None:
    with answering(tmp_path, Canned(body=json.dumps({"keys": [DESK]}).encode())):
        done = CliRunner().invoke(main, ["--data", str(tmp_path), "keys", "list"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for shown in ("desk", "ana", "private, a", "yes", "5", "7000", "never"):
        assert shown in done.output


def test_a_key_is_asked_for_with_its_labels_user_and_limits(tmp_path: Path) -> None:
    canned = Canned(body=b'{"name":"desk","key":"msk-1"}')
    terms = ["--label", "private", "--label", "a", "--user", "ana", "--owner"]
    limits = ["--requests-per-minute", "5", "--tokens-per-day", "7000"]
    with answering(tmp_path, canned):
        for words in ([], [*terms, *limits]):
            done = CliRunner().invoke(main, ["--data", str(tmp_path), "keys", "create", "desk", *words])
            assert (done.exit_code, done.output.strip()) == (0, "msk-1")
        wrong = ["--data", str(tmp_path), "keys", "create", "desk", "--tokens-per-day", "0"]
        assert CliRunner().invoke(main, wrong).exit_code == 2
    bare, full = (json.loads(body) for _, _, body, _ in canned.asked)
    assert full == {name: DESK[name] for name in full} and full.keys() == DESK.keys() - {"made_at", "used_at"}
    nothing = {"labels": [], "user": None, "is_owner": False, "requests_per_minute": None, "tokens_per_day": None}
    assert bare == {"name": "desk", **nothing}


KINDS = {"single": {"right": 1, "cases": 2}, "none": {"right": 1, "cases": 1}}
CERTIFICATE = {"percent": 66, "right": 2, "cases": 3, "kinds": KINDS, "at": 0.0, "version": 1}
EXAM = (
    {"event": "exam", "cases": 3},
    {"event": "case", "number": 1, "kind": "single", "name": "a sum", "right": False, "why": "said \x1b[31m[b]no"},
    {"event": "certificate", **CERTIFICATE},
)


def test_an_exam_shows_what_was_wrong_and_the_score(tmp_path: Path) -> None:
    with answering(tmp_path, lines(*EXAM)):
        done = CliRunner().invoke(main, ["--data", str(tmp_path), "models", "certify", "spore"])
    assert done.exit_code == 0 and "spore: 66 %" in done.output and "1 of 2" in done.output and "2 of 3" in done.output
    assert "a sum: said" in done.output and "[b]no" in done.output and "\x1b[31m" not in done.output
    with answering(tmp_path, lines(*EXAM)) as call:
        as_json = CliRunner().invoke(main, ["--data", str(tmp_path), "models", "certify", "spore", "--json"])
    assert [json.loads(line)["event"] for line in as_json.output.splitlines()] == ["exam", "case", "certificate"], call


def test_an_exam_that_breaks_off_or_fails_is_an_error(tmp_path: Path) -> None:
    failed = lines(EXAM[0], error_body(SwarmError("no way")))
    for canned, why, status in ((lines(*EXAM[:2]), "broke off", 4), (failed, "no way", 1)):
        with answering(tmp_path, canned):
            done = CliRunner().invoke(main, ["--data", str(tmp_path), "models", "certify", "spore"])
        assert done.exit_code == status and why in done.output
