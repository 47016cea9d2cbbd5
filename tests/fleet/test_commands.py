"""Every command as its user types it, against real daemons: what it says, how it ends, and what it never lets out."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemons import logs_of
from mycoswarm.cli.entry import COMMANDS
from mycoswarm.cli.fleet import ARGV, Fleet
from mycoswarm.cli.screen import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, EXIT_WRONG

pytestmark = pytest.mark.slow

GROUPS = {
    "approvals": ["allow", "list", "refuse", "watch"],
    "bench": ["ring"],
    "endpoints": ["add", "list", "remove"],
    "keys": ["create", "list", "revoke"],
    "models": ["add", "list", "remove"],
    "rules": ["add", "edit", "explain", "export", "history", "import", "list", "move", "replay", "test", "undo"],
}
SECRET_PROMPT = "The heliotrope password of my aunt is Zanzibar-77"


@dataclass(frozen=True)
class Said:
    """How a command ended."""

    code: int
    out: str
    err: str


def type_in(folder: Path, *words: str, lines: str = "") -> Said:
    """Run a command on a data folder, with what somebody types."""
    environment = {**os.environ, "COLUMNS": "160", "NO_COLOR": "1"}
    done = subprocess.run(
        [*ARGV, "--data", str(folder), *words],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def at(fleet: Fleet) -> Path:
    """The coordinator's folder."""
    return fleet.coordinator.folder


@pytest.fixture(scope="module")
def loner() -> Iterator[Fleet]:
    """Two daemons of which one has founded a swarm; the other belongs to none."""
    with Fleet(workers=1) as running:
        assert type_in(running.coordinator.folder, "init", "--name", "first").code == 0
        yield running


def test_every_command_explains_itself(tmp_path: Path) -> None:
    """In one process of its own: starting Python for each would take longer than all else here."""
    asked = [[name] for name in sorted(COMMANDS)]
    asked += [[group, name] for group, names in GROUPS.items() for name in names]
    script = (
        "import sys, json\n"
        "from click.testing import CliRunner\n"
        "from mycoswarm.cli.entry import main\n"
        "asked = [[], *json.loads(sys.argv[1])]\n"
        "told = [CliRunner().invoke(main, [*words, '--help']) for words in asked]\n"
        "print(json.dumps([[one.exit_code, one.output] for one in told]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script, json.dumps(asked)], capture_output=True, text=True, timeout=60
    )
    told = json.loads(done.stdout)
    assert len(told) == len(asked) + 1
    for words, (code, text) in zip([[], *asked], told, strict=True):
        assert code == 0 and "Usage:" in text and len(text.splitlines()) > 3, words
        assert all(len(line) <= 100 for line in text.splitlines()), words
    for name in set(COMMANDS) - {"stage"}:
        assert f"\n  {name} " in told[0][1]


def test_detect_shows_the_machine_without_a_daemon(tmp_path: Path) -> None:
    shown = type_in(tmp_path, "detect")
    assert shown.code == 0 and "Models that fit" in shown.out and "GiB" in shown.out
    told = json.loads(type_in(tmp_path, "detect", "--json").out)
    assert told["class"]["name"] and told["class"]["reason"] and isinstance(told["fits"], list)
    assert not list(tmp_path.iterdir()), "looking leaves nothing behind"


def test_version_says_what_it_stands_on(tmp_path: Path) -> None:
    told = json.loads(type_in(tmp_path, "version", "--json").out)
    assert {"mycoswarm", "llama-cpp-python", "python", "system"} <= set(told)
    assert told["mycoswarm"] in type_in(tmp_path, "version").out


def test_nodes_are_shown_with_their_state(at: Path) -> None:
    shown = type_in(at, "nodes")
    assert shown.code == 0 and shown.out.count("ready") == 3
    for name in ("coordinator *", "worker-1", "worker-2"):
        assert name in shown.out
    told = json.loads(type_in(at, "nodes", "--json").out)
    assert [node["role"] for node in told["nodes"]].count("coordinator") == 1 and told["conditions"] == []


def test_models_are_listed(at: Path) -> None:
    shown = type_in(at, "models", "list")
    assert shown.code == 0 and "spore" in shown.out and "worker-2" in shown.out
    told = json.loads(type_in(at, "models", "list", "--json").out)
    assert [model["name"] for model in told] == ["spore"] and told[0]["splittable"]
    gone = type_in(at, "models", "remove", "nobody")
    assert gone.code == EXIT_WRONG and "nobody" in gone.err and gone.out == ""
    wrong = type_in(at, "models", "add", str(at / "absent.gguf"))
    assert wrong.code == EXIT_WRONG and "absent.gguf" in wrong.err


def test_keys_are_made_shown_once_and_revoked(fleet: Fleet, at: Path) -> None:
    made = type_in(at, "keys", "create", "typed", "--label", "private", "--user", "ana", "--tokens-per-day", "5")
    secret = made.out.strip()
    assert made.code == 0 and len(secret) > 20 and "\n" not in secret
    again = type_in(at, "keys", "create", "typed")
    assert again.code == EXIT_WRONG and "typed" in again.err
    listed = type_in(at, "keys", "list")
    assert "typed" in listed.out and secret not in listed.out
    (key,) = [key for key in json.loads(type_in(at, "keys", "list", "--json").out) if key["name"] == "typed"]
    assert (key["labels"], key["user"], key["is_owner"], key["tokens_per_day"]) == (["private"], "ana", False, 5)
    assert type_in(at, "keys", "revoke", "typed").code == 0
    assert type_in(at, "keys", "revoke", "typed").code == EXIT_WRONG
    assert secret not in logs_of(fleet)
    for member in fleet.members:
        for file in member.folder.glob("node.db*"):
            assert secret.encode() not in file.read_bytes(), "keys are kept as hashes"


def test_ask_answers_in_words_in_json_and_with_reasons(fleet: Fleet, at: Path) -> None:
    words = ("ask", "--temperature", "0", "--max-tokens", "12", SECRET_PROMPT)
    plain = type_in(at, *words)
    assert plain.code == 0 and plain.out.strip() and "ran on" in plain.err
    told = json.loads(type_in(at, *words, "--json").out)
    assert told["choices"][0]["message"]["content"].strip() == plain.out.strip()
    why = type_in(at, *words, "--explain")
    assert why.code == 0 and "It would run on" in why.out and "Rule:" in why.out
    assert {"coordinator", "worker-1", "worker-2"} <= {word.strip(":") for word in why.out.split()}
    assert json.loads(type_in(at, *words, "--explain", "--json").out)["allowed"] is True
    split = type_in(at, *words, "--route", "split; nodes=worker-1,worker-2")
    assert split.out == plain.out and "worker-1[" in split.err and "worker-2[" in split.err
    logged = logs_of(fleet)
    assert not any(word in logged for word in ("heliotrope", "Zanzibar", plain.out.strip()))


def test_ask_says_what_is_wrong(at: Path) -> None:
    unknown = type_in(at, "ask", "--model", "gpt-9", "Hello!")
    assert unknown.code == EXIT_WRONG and "gpt-9" in unknown.err and "spore" in unknown.err
    nowhere = type_in(at, "ask", "--route", "nodes=attic", "Hello!")
    assert nowhere.code in (EXIT_REFUSED, EXIT_WRONG) and "attic" in nowhere.err
    odd = type_in(at, "ask", "--route", "sideways", "Hello!")
    assert odd.code == EXIT_WRONG and "sideways" in odd.err
    hot = type_in(at, "ask", "--temperature", "9", "Hello!")
    assert hot.code == EXIT_WRONG and "temperature" in hot.err
    assert type_in(at, "ask").code == EXIT_USAGE
    assert type_in(at, "ask", "--colour", "red", "Hello!").code == EXIT_USAGE
    assert type_in(at, "dance").code == EXIT_USAGE


def test_chat_takes_lines_and_its_own_words(at: Path) -> None:
    lines = "Hello!\n/route solo\n/new\nHello!\n/model gpt-9\n/model spore\n/dance\n\n/quit\nnever read\n"
    said = type_in(at, "chat", "--temperature", "0", "--max-tokens", "12", lines=lines)
    assert said.code == 0
    assert said.err.count("ran on") == 2 and "route solo" in said.err and "model gpt-9" in said.err
    assert "There are /agent NAME" in said.err and "never" not in said.out


def test_a_chat_survives_a_turn_that_fails(at: Path) -> None:
    lines = "/model gpt-9\nHello!\n/model spore\nHello!\n"
    said = type_in(at, "chat", "--max-tokens", "8", lines=lines)
    assert said.code == 0 and "gpt-9" in said.err and said.err.count("ran on") == 1


def test_tokens_that_do_not_hold_are_refused(loner: Fleet) -> None:
    first, other = loner.coordinator.folder, loner.workers[0].folder
    outside = type_in(other, "token")
    assert outside.code in (EXIT_REFUSED, EXIT_WRONG) and "coordinator" in outside.err
    for bad in ("x", "msj-" + "A" * 60, "🦊", ""):
        refused = type_in(other, "join", bad)
        assert refused.code in (EXIT_REFUSED, EXIT_WRONG) and "error:" in refused.err, bad
    token = type_in(first, "token").out.strip()
    altered = token[:-6] + ("AAAAAA" if not token.endswith("AAAAAA") else "BBBBBB")
    assert type_in(other, "join", altered).code in (EXIT_REFUSED, EXIT_WRONG)

    brief = type_in(first, "token", "--for", "200ms").out.strip()
    spent = type_in(first, "token", "--for", "soon")
    assert spent.code in (EXIT_USAGE, EXIT_WRONG) and "soon" in spent.err
    late = type_in(other, "join", brief)  # two starts of Python later
    assert late.code in (EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_WRONG) and late.err

    joined = type_in(other, "join", token)
    assert joined.code == 0 and "worker" in joined.out, joined.err
    twice = type_in(other, "join", token)
    assert twice.code in (EXIT_REFUSED, EXIT_WRONG) and twice.err
    assert type_in(other, "leave", "--yes").code == 0
    used = type_in(other, "join", token)
    assert used.code in (EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_WRONG) and used.err
    assert token not in logs_of(loner) and brief not in logs_of(loner)


def test_without_a_daemon_commands_say_how_to_start_it(tmp_path: Path) -> None:
    for words in (("nodes",), ("ask", "Hello!"), ("keys", "list"), ("models", "list"), ("token",), ("join", "x")):
        said = type_in(tmp_path, *words)
        assert said.code == EXIT_UNREACHABLE and "mycoswarm-node run" in said.err and said.out == "", words


def test_a_folder_that_cannot_be_used_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = type_in(tmp_path / "file" / "below", "run", "--console", "127.0.0.1:0", "--peer", "127.0.0.1:0")
    assert said.code == EXIT_WRONG and "below" in said.err
    (tmp_path / "settings.toml").write_text("colour = 3\n")
    said = type_in(tmp_path, "run")
    assert said.code == EXIT_WRONG and "colour" in said.err and "settings.md" in said.err


def test_output_that_nobody_reads_is_no_traceback(at: Path) -> None:
    with subprocess.Popen(
        [*ARGV, "--data", str(at), "models", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        told = process.stderr.read().decode()
    assert "Traceback" not in told


def test_a_tag_reaches_every_node_and_the_rules(fleet: Fleet, at: Path) -> None:
    rule = ("rules", "add", "on tagged", "--label-any", "tagged", "--tag", "quiet", "--position", "1")
    early = type_in(at, *rule)
    assert early.code == 0 and "no node has this tag now" in early.err
    try:
        assert type_in(at, "nodes", "tag", "worker-2", "quiet", "gpu").out == "worker-2 has the tags gpu, quiet.\n"
        assert type_in(at, "nodes", "untag", "worker-2", "gpu").out == "worker-2 has the tags quiet.\n"
        assert type_in(at, "nodes", "untag", "worker-2", "gpu").code == EXIT_WRONG
        answered = type_in(at, "ask", "Hello", "--label", "tagged", "--max-tokens", "4")
        assert answered.code == 0 and "ran on worker-2[0,8) (this-machine)" in answered.err
        assert "rule: on tagged; receipt: " in answered.err
        for member in fleet.members:
            told = {node["name"]: node["tags"] for node in member.call.ask("GET", "/api/nodes")["nodes"]}
            assert told == {"coordinator": [], "worker-1": [], "worker-2": ["quiet"]}
        refused = type_in(fleet.workers[0].folder, "nodes", "tag", "worker-1", "quiet")
        assert refused.code == EXIT_WRONG and "no coordinator" in refused.err
    finally:
        type_in(at, "nodes", "untag", "worker-2", "quiet")
        type_in(at, "rules", "undo")
