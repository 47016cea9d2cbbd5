"""Tools over real daemons: they run where a rule says and nowhere else, and only with the coordinator's ticket."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from daemons import until
from fleet.test_ledger import context_of, id_of, peer_of, refusals
from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.fleet import ARGV, Fleet, Member
from mycoswarm.sandbox.clearance import digest_of, seal
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.key import SigningKey
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.wire.chore import Chore, Done, Failed, Greeting, ToolLine, read_chore, write_chore
from mycoswarm.wire.ticket import Sealed, ToolTicket, Warrant

pytestmark = pytest.mark.slow

CODE = '{"code": "print(6 * 7)"}'


@pytest.fixture(scope="module")
def lab() -> Iterator[Fleet]:
    """A coordinator and two workers; Python runs on worker-1, what is private nowhere but on the coordinator's."""
    with Fleet(workers=2) as running:
        running.enrol()
        doctor = running.coordinator.call.ask("GET", "/api/doctor")
        if doctor["sandbox"]["level"] == "limits":
            pytest.skip(f"this machine has no sandbox: {doctor['sandbox']['why']}")
        for words in (
            ("no secrets", "--task", "tool:run_*", "--label-any", "private", "--deny", "not what is private"),
            ("python there", "--task", "tool:run_python", "--node", "worker-1"),
            ("files on two", "--task", "tool:*_file*", "--node", "worker-2"),
        ):
            assert (
                type_in(running.coordinator, "rules", "add", *words, "--before", "any adopted node on this LAN")[0] == 0
            )
        yield running


def type_in(member: Member, *words: str, answer: str = "") -> tuple[int, str, str]:
    argv = [*ARGV, "--data", str(member.folder), *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, input=answer)
    return done.returncode, done.stdout, done.stderr


def use(fleet: Fleet, tool: str, labels: tuple[str, ...] = (), **arguments: Any) -> dict[str, Any]:
    body = {"arguments": arguments, "labels": list(labels)}
    told: dict[str, Any] = fleet.coordinator.call.ask("POST", f"/api/tools/{tool}", body, timeout_s=90)
    return told


def rows(member: Member, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = member.call.ask("GET", f"/api/ledger?kind={kind}")["rows"]
    return found


def test_a_tool_runs_where_the_rule_says_and_the_ledgers_tell(lab: Fleet) -> None:
    first, (one, two) = lab.coordinator, lab.workers
    told = use(lab, "run_python", code="print(6 * 7)")
    assert (told["node"], told["text"], told["ok"]) == ("worker-1", "42\n", True)
    taken = {member.name: [row["request_id"] for row in rows(member, "tool_ticket")] for member in (first, one, two)}
    assert told["receipt"] in taken["worker-1"] and told["receipt"] not in taken["coordinator"] + taken["worker-2"]
    code, said, _ = type_in(first, "ledger", "exposure", told["receipt"], "--json")
    readers = [(one["what"], one["name"]) for one in json.loads(said)["readers"]]
    assert code == 0 and readers == [("coordinator", "coordinator"), ("tool", "worker-1")]
    decision = first.call.ask("GET", f"/api/ledger/{told['receipt']}")["rows"][0]
    release, ticket = (row["body"] for row in rows(one, "tool_ticket") if row["request_id"] == told["receipt"])
    assert ticket["receipt"] == decision["digest"] and release["tool"] == "release"
    assert not list((one.folder / "workspaces").iterdir()) and "print" not in json.dumps(rows(first, "decision"))
    code, said, _ = type_in(first, "ledger", "verify")
    assert code == 0, said


def test_what_a_label_forbids_is_refused_and_a_label_that_is_added_opens_nothing(lab: Fleet) -> None:
    with pytest.raises(SwarmError, match="not what is private"):
        use(lab, "run_python", ("private",), code="print(1)")
    assert rows(lab.coordinator, "tool")[0]["body"]["outcome"] == "denied_by_rule"
    code, _, said = type_in(lab.coordinator, "tool", "run", "run_python", '{"code": "1"}', "--label", "private")
    assert code == 3 and "not what is private" in said


def test_a_way_out_of_the_workspace_is_refused_and_kept(lab: Fleet) -> None:
    told = use(lab, "read_file", path="../../etc/shadow")
    assert not told["ok"] and "out of the workspace" in told["text"] and told["node"] == "worker-2"
    assert rows(lab.coordinator, "tool")[0]["body"]["outcome"] == "outside_workspace"
    assert "outside_workspace" in lab.workers[1].log.read_text()


def test_a_shell_asks_the_owner_where_no_rule_names_it(lab: Fleet) -> None:
    first = lab.coordinator
    code, said, asked = type_in(first, "tool", "run", "run_shell", '{"command": "echo hello"}', answer="y\n")
    assert code == 0 and said == "hello\n\n" and "echo hello" in asked
    code, said, asked = type_in(first, "tool", "run", "run_shell", '{"command": "echo hello"}', answer="n\n")
    assert code == 3 and not said and "said no" in asked
    assert rows(first, "tool")[0]["body"]["outcome"] == "not_approved"
    assert not rows(first, "tool")[0]["body"]["nodes"]


def test_the_coordinator_answers_by_itself_what_is_its_own(lab: Fleet) -> None:
    told = use(lab, "list_nodes")
    assert told["node"] == "coordinator" and told["text"].splitlines()[1:] == ["worker-1: ready", "worker-2: ready"]
    told = use(lab, "explain_route", task="tool:run_python")
    assert "python there" in told["text"] and "worker-1: chosen" in told["text"]
    code, said, _ = type_in(lab.coordinator, "rules", "explain", "--task", "tool:run_python")
    assert code == 0 and "The tool would run on worker-1" in said


def test_calls_at_once_spread_over_the_nodes(lab: Fleet) -> None:
    nodes: list[str] = []

    def work() -> None:
        nodes.append(use(lab, "calculator", expression="2+2")["node"])

    threads = [threading.Thread(target=work) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(nodes) == 9 and len(set(nodes)) > 1


def test_a_worker_has_no_tools_of_its_own_but_a_doctor(lab: Fleet) -> None:
    code, _, said = type_in(lab.workers[0], "tool", "run", "clock")
    assert code == 1 and "worker" in said
    code, said, _ = type_in(lab.workers[0], "doctor")
    level = lab.workers[0].call.ask("GET", "/api/doctor")["sandbox"]["level"]
    assert code == 0 and f"Sandbox: {level}" in said and "Egress guard: active" in said
    told = json.loads(type_in(lab.workers[0], "doctor", "--json")[1])
    assert told.keys() == lab.workers[0].call.ask("GET", "/api/doctor").keys(), "one report for both"
    assert f"for nodes at port {told['listens']['peer_port']}" in said and "Standing trouble: none" in said
    assert [row[0] for row in told["machine"]][:3] == ["Class", "Board", "System"] and "Disk" in said
    assert "run_shell" in type_in(lab.coordinator, "tool", "list")[1]


class Impostor:
    """Somebody with the coordinator's certificate and key, who asks worker-1 himself."""

    def __init__(self, fleet: Fleet) -> None:
        first, self.target = fleet.coordinator, fleet.workers[0]
        self.registrar = Registrar.load(first.folder, Identity.load_or_create(first.folder))
        self.address, self.target_id = peer_of(self.target), id_of(self.target)
        self.context = context_of(first)

    def ticket(self, nonce: str, **more: Any) -> ToolTicket:
        fields: dict[str, Any] = {
            "swarm_id": self.registrar.roster.swarm_id,
            "node_id": self.target_id,
            "nonce": nonce,
            "sequence": 0,
            "lifetime_s": 30.0,
            "warrant": Warrant(rule="mine", task="tool:run_python"),
            "tool": "run_python",
            "digest": digest_of(CODE),
            "run_id": "f" * 16,
            "workspace_id": "f" * 16,
        }
        return ToolTicket(**fields | more)

    async def ask(self, make: Callable[[str], Sealed], arguments: str = CODE) -> ToolLine:
        """Open a tool stream and show the ticket made for its nonce; gives what comes back."""
        async with (
            await dial([self.address], self.context, lambda der: True, 3.0) as connection,
            await connection.open("POST", "/peer/tools") as stream,
        ):
            assert await stream.response(5) == 200
            greeting = read_chore(await stream.receive() or b"")
            assert isinstance(greeting, Greeting)
            await stream.send(write_chore(Chore(ticket=make(greeting.nonce), arguments=arguments)))
            return read_chore(await stream.receive() or b"")


def test_a_worker_asked_directly_refuses_forged_replayed_and_altered_tickets_and_keeps_them(lab: Fleet) -> None:
    impostor = Impostor(lab)
    sign = impostor.registrar.authority.sign
    shown: list[Sealed] = []

    def keep(nonce: str) -> Sealed:
        shown.append(seal(impostor.ticket(nonce), sign))
        return shown[0]

    done = asyncio.run(impostor.ask(keep))
    assert isinstance(done, Done) and done.text == "42\n"
    altered = msgspec.structs.replace(shown[0], body=shown[0].body.replace(b"run_python", b"run_shell!"))
    tries: dict[str, tuple[Callable[[str], Sealed], str]] = {
        "a replay": (lambda nonce: shown[0], CODE),
        "coordinator's signature": (lambda nonce: altered, CODE),
        "other arguments": (lambda nonce: seal(impostor.ticket(nonce), sign), '{"code": "print(7)"}'),
        "not what was decided": (lambda nonce: seal(impostor.ticket(nonce, tool="run_shell"), sign), CODE),
        "another node": (lambda nonce: seal(impostor.ticket(nonce, node_id="0" * 32), sign), CODE),
        "live for": (lambda nonce: seal(impostor.ticket(nonce, lifetime_s=1e9), sign), CODE),
        "signature": (lambda nonce: seal(impostor.ticket(nonce), SigningKey.generate().sign), CODE),
    }
    before = len(refusals(impostor.target))
    taken = len(rows(impostor.target, "tool_ticket"))
    for why, (make, arguments) in tries.items():
        line = asyncio.run(impostor.ask(make, arguments))
        assert isinstance(line, Failed) and line.code == "bad_ticket" and why in line.message, (why, line)
        assert why in refusals(impostor.target)[0]
    assert len(refusals(impostor.target)) == before + len(tries)
    assert len(rows(impostor.target, "tool_ticket")) == taken


def test_another_worker_s_certificate_has_no_tools_run(lab: Fleet) -> None:
    async def ask() -> int:
        async with await dial([peer_of(lab.workers[0])], context_of(lab.workers[1]), lambda der: True, 3.0) as line:
            return (await line.request("POST", "/peer/tools", timeout_s=5, limit_bytes=1 << 20)).status

    assert asyncio.run(ask()) == 403
    assert "only the swarm's coordinator has tools run" in refusals(lab.workers[0])[0]


def test_a_node_that_dies_meanwhile_is_a_typed_error_and_nothing_runs_twice(own_fleet: Fleet) -> None:
    first, one = own_fleet.coordinator, own_fleet.workers[0]
    words = ("rules", "add", "there", "--task", "tool:run_python", "--node", "worker-1", "--node", "worker-2")
    assert type_in(first, *words, "--prefer", "worker-1", "--position", "1")[0] == 0
    failed: list[SwarmError] = []

    def work() -> None:
        try:
            use(own_fleet, "run_python", code="import time; time.sleep(60)", seconds=90)
        except SwarmError as error:
            failed.append(error)

    asking = threading.Thread(target=work)
    asking.start()
    until(lambda: rows(one, "tool_ticket"), 20, "worker-1 has the ticket")
    time.sleep(0.5)
    one.process.kill()
    asking.join(30)
    assert [error.code for error in failed] == ["node_lost"] and "not known" in (failed[0].hint or "")
    assert rows(first, "tool")[0]["body"]["outcome"] == "node_lost"
    assert not rows(own_fleet.workers[1], "tool_ticket")
    assert use(own_fleet, "run_python", code="print(1)")["node"] == "worker-2"
