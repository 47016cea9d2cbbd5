"""Models pulled by real daemons from a server of this test's own, over TLS: stopped, killed, led elsewhere."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from certificates import Authority
from daemons import PAIR, answer, logs_of, until
from hub import COMMIT, Hub, serving
from models import write_random_model
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.entry import main
from mycoswarm.cli.fleet import Fleet, Member

pytestmark = pytest.mark.slow

SOURCE = "hf:owner/repo/tiny.gguf"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    data = write_random_model(folder / "tiny.gguf", n_layer=4, width=64, vocab=320).read_bytes()
    authority = Authority(folder)
    # The daemons trust what the system trusts: this process gives them its environment.
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(authority.write())
    with serving(authority, data) as running:
        yield running
    os.environ.pop("SSL_CERT_FILE")
    if before is not None:
        os.environ["SSL_CERT_FILE"] = before


@pytest.fixture(scope="module")
def puller(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose coordinator knows this hub."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "coordinator").mkdir(mode=0o700)
    (folder / "coordinator" / "settings.toml").write_text(f'hub = "https://localhost:{hub.port}"\n')
    with Fleet(workers=2, folder=folder) as running:
        running.enrol()
        yield running
        assert "Traceback" not in logs_of(running)


@pytest.fixture(autouse=True)
def honest(hub: Hub) -> None:
    """Each test begins with a hub that does nothing odd, and sends to a file of its own."""
    hub.sends_to, hub.status = "/cdn/tiny.gguf", 200
    hub.cuts.clear()
    hub.asked.clear()
    hub.gate.set()


def type_in(member: Member, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["--data", str(member.folder), "models", *words], env={"COLUMNS": "200"})
    return done.exit_code, done.output


def rows(member: Member, kind: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = member.call.ask("GET", f"/api/ledger?kind={kind}")["rows"]
    return [row["body"] for row in told]


def models(member: Member) -> dict[str, Any]:
    told: dict[str, Any] = member.call.ask("GET", "/api/models")
    return told


def begin(member: Member, hub: Hub) -> threading.Thread:
    """Have a pull begin that goes no further until the gate is open; the thread ends when it is cut off."""
    hub.gate.clear()

    def listen() -> None:
        try:
            for _ in member.call.stream("POST", "/api/models/pull", {"source": SOURCE}, timeout_s=30):
                pass
        except SwarmError:
            pass

    thread = threading.Thread(target=listen)
    thread.start()
    until(lambda: any(one["done_bytes"] for one in models(member)["unfinished"]), 10, "some of it has come")
    return thread


def test_a_pull_survives_the_daemon_s_death_and_the_model_runs_on_two_workers(puller: Fleet, hub: Hub) -> None:
    thread = begin(puller.coordinator, hub)
    puller.restart(puller.coordinator)  # kills it first
    hub.gate.set()
    thread.join(20)
    assert not thread.is_alive()
    puller.wait_ready()
    first = puller.coordinator
    (part,) = models(first)["unfinished"]
    assert part["name"] == "tiny" and 0 < part["done_bytes"] < part["total_bytes"] == len(hub.data)
    code, said = type_in(first, "pull", SOURCE)
    assert code == 0 and hub.sha256 in said and "as promised" in said, said
    assert hub.ranges[-1] == f"bytes={part['done_bytes']}-"
    (row,) = rows(first, "pull")
    assert (row["outcome"], row["source"], row["revision"], row["by"]) == ("taken", SOURCE, COMMIT, "owner")
    assert row["sha256"] == hub.sha256 and row["fetched_bytes"] == len(hub.data) - part["done_bytes"]
    assert row["hosts"] == [{"host": f"localhost:{hub.port}", "address": f"127.0.0.1:{hub.port}"}] * 2
    assert models(first)["unfinished"] == [] and rows(first, "egress") == []
    assert answer(puller, PAIR, model="tiny", tokens=4, logit_bias={"4": -100})
    found = [json.loads(line) for line in first.call.stream("POST", "/api/ledger/verify", {})]
    assert found and not any("error" in one for one in found)
    assert type_in(first, "remove", "tiny")[0] == 0


def test_who_hangs_up_stops_a_pull_which_can_then_be_dropped(puller: Fleet, hub: Hub) -> None:
    first = puller.coordinator
    hub.gate.clear()
    lines = first.call.stream("POST", "/api/models/pull", {"source": SOURCE}, timeout_s=30)
    while json.loads(next(lines))["done_bytes"] == 0:
        pass
    lines.close()  # type: ignore[attr-defined]  # a generator
    until(lambda: rows(first, "pull")[0]["outcome"] == "stopped", 5, "it is stopped")
    (part,) = models(first)["unfinished"]
    assert part["done_bytes"] > 0
    assert type_in(first, "remove", "tiny")[0] == 0 and models(first)["unfinished"] == []


def test_nobody_sends_a_daemon_to_its_own_network(puller: Fleet, hub: Hub) -> None:
    """The server that was named is on this machine; where it sends to is not what the owner named."""
    first = puller.coordinator
    for where in (
        f"https://127.0.0.1:{hub.port}/cdn/tiny.gguf",
        "https://192.168.1.1/admin.gguf",
        "http://localhost/x",
    ):
        hub.sends_to = where
        code, said = type_in(first, "pull", SOURCE)
        assert code == 1 and "sends us" in said, said
    assert len(hub.asked) == 3 and hub.ranges == [] and models(first)["unfinished"] == []
    assert rows(first, "egress") == [], "it was refused before anything was tried"


def test_what_cannot_be_pulled_is_said_with_a_status_and_nothing_is_asked(
    puller: Fleet, hub: Hub, tmp_path: Path
) -> None:
    first = puller.coordinator
    for body, code in (
        ({"source": "http://localhost/x.gguf"}, "bad_request"),
        ({"source": str(tmp_path / "x.gguf")}, "bad_request"),
        ({"source": SOURCE, "name": "../x"}, "bad_request"),
        ({"source": SOURCE, "name": "spore"}, "name_taken"),
        ({"source": SOURCE, "force": True}, "bad_request"),
        ({}, "bad_request"),
    ):
        with pytest.raises(SwarmError) as caught:
            first.call.ask("POST", "/api/models/pull", body)
        assert caught.value.code == code and caught.value.hint
    assert not hub.asked
    hub.status = 404
    with pytest.raises(SwarmError) as caught:
        first.call.ask("POST", "/api/models/pull", {"source": SOURCE})
    assert caught.value.code == "not_found" and "no such file" in caught.value.message


def test_a_worker_pulls_for_itself(puller: Fleet, hub: Hub) -> None:
    worker = puller.workers[0]
    code, said = type_in(worker, "pull", f"https://localhost:{hub.port}/plain/own.gguf", "--name", "own")
    assert code == 0 and "nobody had promised" in said, said
    until(
        lambda: any(m["name"] == "own" and m["held_by"] == ["worker-1"] for m in models(puller.coordinator)["models"]),
        20,
        "the coordinator sees it",
    )
    assert type_in(worker, "remove", "own")[0] == 0
