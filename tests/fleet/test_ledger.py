"""What the owner sees and proves of the ledger, over real daemons, and what is found when somebody tampered with it."""

import asyncio
import json
import sqlite3
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from api.test_peer import Line
from daemons import PAIR, answer
from mycoswarm.cli.fleet import ARGV, Fleet, Member
from mycoswarm.stage.delivery import ticket_header
from mycoswarm.stage.permit import seal_ticket
from mycoswarm.store.audit import audit_lines
from mycoswarm.swarm.dial import dial
from mycoswarm.swarm.identity import Identity
from mycoswarm.swarm.key import SigningKey, is_signed
from mycoswarm.swarm.registrar import Registrar
from mycoswarm.swarm.tls import client_context
from mycoswarm.wire.order import Open
from mycoswarm.wire.plan import Conditions, RingPlan, StagePlan
from mycoswarm.wire.report import AnyReport, Failed, Nonce, Ready
from mycoswarm.wire.ticket import Sealed, Ticket, Warrant

pytestmark = pytest.mark.slow

SECRET_WORDS = "the heliotrope is in the cellar"
ASK = [{"role": "user", "content": SECRET_WORDS}]


@pytest.fixture(scope="module")
def household() -> Iterator[Fleet]:
    """A fleet of this module's own: its last test breaks it."""
    with Fleet(workers=2) as running:
        running.enrol()
        yield running


def ledger(member: Member, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [*ARGV, "--data", str(member.folder), "ledger", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def told(member: Member, *words: str, status: int = 0) -> Any:
    done = ledger(member, *words, "--json")
    assert done.returncode == status, done.stderr
    assert SECRET_WORDS not in done.stdout
    return json.loads(done.stdout)


def refusals(member: Member) -> list[str]:
    """Why work was refused on a node, by its own ledger, newest first."""
    rows = member.call.ask("GET", "/api/ledger?kind=refused_ticket")["rows"]
    return [row["body"]["why"] for row in rows]


def context_of(member: Member) -> ssl.SSLContext:
    """A client with the certificate out of a member's folder."""
    identity = Identity.load_or_create(member.folder)
    assert identity.membership is not None
    return client_context(
        identity.membership.certificate_pem, identity.key.pem.decode(), identity.membership.authority_pem
    )


def peer_of(member: Member) -> str:
    return f"127.0.0.1:{member.call.ask('GET', '/api/node')['peer_port']}"


def id_of(member: Member) -> str:
    return str(member.call.ask("GET", "/api/node")["node_id"])


def test_receipts_lists_exposure_and_verify_agree_on_what_ran_where(household: Fleet) -> None:
    first, (one, two) = household.coordinator, household.workers
    receipts = {}
    with openai.OpenAI(base_url=f"http://{household.console()}/v1", api_key=household.key("desk")) as client:
        for name, route in (("solo", "solo; nodes=worker-1"), ("split", PAIR)):
            raw = client.chat.completions.with_raw_response.create(
                model="spore", messages=ASK, max_tokens=4, temperature=0, extra_headers={"x-mycoswarm-route": route}
            )
            assert raw.parse().choices[0].message.content
            receipts[name] = raw.headers["x-mycoswarm-receipt"]
            assert raw.headers["x-mycoswarm-rule"] and raw.headers["x-mycoswarm-ran"] == "this-machine"
        stream = client.chat.completions.create(model="spore", messages=ASK, max_tokens=4, stream=True)
        chunks = [chunk for chunk in stream if chunk.choices]
        extra = chunks[-1].model_extra or {}
        receipts["stream"] = extra["mycoswarm"]["receipt"]
    listed = told(first, "list", "--key", "desk")
    assert [each["receipt"] for each in listed] == [receipts[name] for name in ("stream", "split", "solo")]
    assert sorted(listed[1]["nodes"]) == ["worker-1", "worker-2"] and listed[1]["completion_tokens"] == 4
    assert [each["receipt"] for each in told(first, "list", "--limit", "1")] == [receipts["stream"]]
    assert told(first, "list", "--outcome", "cancelled") == [] == told(first, "list", "--key", "nobody")

    rows = told(first, "show", receipts["split"][:8])["rows"]
    assert [row["kind"] for row in rows] == ["decision", "answer"]
    rows_there = told(two, "show", receipts["split"])["rows"]
    assert {row["body"]["receipt"] for row in rows_there} == {rows[0]["digest"]}
    assert ledger(first, "show", "0" * 8).returncode == 1 and ledger(first, "show", "abc").returncode == 1

    for name, layered in (("solo", {id_of(one)}), ("split", {id_of(one), id_of(two)})):
        exposed = told(first, "exposure", receipts[name])
        assert {reader["id"] for reader in exposed["readers"] if reader["what"] == "layers"} == layered
        assert [r["id"] for r in exposed["readers"] if r["what"] == "coordinator"] == [id_of(first)]
        assert not exposed["has_prompt"]
    verdict = told(first, "verify")
    assert verdict["is_sound"] and set(verdict["checked"]) == {"coordinator", "worker-1", "worker-2"}
    assert verdict["comparison"]["decisions"] >= 3 and not verdict["comparison"]["untraced"]
    alone = told(one, "verify")
    assert alone["is_sound"] and alone["checked"] == ["worker-1"] and alone["comparison"] is None
    assert ledger(one, "exposure", receipts["split"]).returncode == 1
    for words in (["list"], ["show", receipts["split"]], ["exposure", receipts["split"]], ["verify"]):
        done = ledger(first, *words)
        assert done.returncode == 0 and SECRET_WORDS not in done.stdout + done.stderr


def test_an_export_is_checked_with_the_node_s_public_key_alone(household: Fleet, tmp_path: Path) -> None:
    first = household.coordinator
    file = tmp_path / "ledger.jsonl"
    assert ledger(first, "export", str(file)).returncode == 0
    assert file.stat().st_mode & 0o077 == 0
    public = Identity.load_or_create(first.folder).key.public_der
    lines = file.read_text().splitlines()
    verdict = audit_lines(lines, lambda body, signature: is_signed(public, body, signature))
    assert verdict.is_sound and verdict.rows == len(lines) - 1 > 0
    assert ledger(first, "export").stdout.splitlines()[: len(lines) - 1] == lines[:-1]


def test_prompts_are_kept_where_the_owner_says_so_and_shown_only_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "coordinator").mkdir(mode=0o700)
    (tmp_path / "coordinator" / "settings.toml").write_text("ledger_prompts = true\n")
    with Fleet(workers=0, folder=tmp_path) as alone:
        alone.wait_ready()
        answer(alone, tokens=2, messages=ASK)
        (request,) = told(alone.coordinator, "list")
        assert told(alone.coordinator, "show", request["receipt"])["rows"][0]["has_prompt"]
        exposed = told(alone.coordinator, "exposure", request["receipt"])
        assert exposed["has_prompt"] and exposed["notes"]
        assert told(alone.coordinator, "verify")["is_sound"], "a node of no swarm compares, too"
        assert SECRET_WORDS in ledger(alone.coordinator, "show", "--prompt", request["receipt"]).stdout
        assert SECRET_WORDS not in alone.coordinator.log.read_text()


class Forger:
    """Somebody with the coordinator's certificate and key, who talks to worker-1 himself."""

    def __init__(self, fleet: Fleet) -> None:
        first, self.target = fleet.coordinator, fleet.workers[0]
        self.registrar = Registrar.load(first.folder, Identity.load_or_create(first.folder))
        self.context = context_of(first)
        self.address, self.target_id = peer_of(self.target), id_of(self.target)
        (spore,) = (m for m in first.call.ask("GET", "/api/models")["models"] if m["name"] == "spore")
        self.digest, self.n_layer = spore["digest"], spore["layers"]

    def ticket(self, node_id: str, nonce: str, **more: Any) -> Ticket:
        plan = RingPlan(
            ring_id="aa" * 8,
            model_digest=self.digest,
            n_layer=self.n_layer,
            holder_id=node_id,
            stages=(StagePlan(node_id=node_id, first=0, last=self.n_layer),),
            conditions=Conditions(n_ctx=256, n_ubatch=32),
        )
        fields: dict[str, Any] = {"sequence": 0, "lifetime_s": 60.0, "warrant": Warrant(rule="mine")} | more
        swarm_id = self.registrar.roster.swarm_id
        return Ticket(swarm_id=swarm_id, node_id=node_id, nonce=nonce, plan=plan, **fields)

    async def open(self, make: Callable[[str], Sealed]) -> AnyReport | None:
        """Open a ring stream and show the ticket made for its nonce; gives the first report on it."""
        async with await dial([self.address], self.context, lambda der: True, 3.0) as connection:
            stream = await connection.open("POST", "/peer/rings")
            assert await stream.response(5) == 200
            line = Line(stream)
            nonce = await line.hear()
            assert isinstance(nonce, Nonce)
            await line.tell(Open(ticket=make(nonce.nonce), directory={}))
            return await line.hear()


def test_a_worker_asked_directly_without_a_ticket_that_holds_refuses_and_keeps_it(household: Fleet) -> None:
    forger = Forger(household)
    sign = forger.registrar.authority.sign

    def altered(nonce: str) -> Sealed:
        sealed = seal_ticket(forger.ticket(forger.target_id, nonce), sign)
        return Sealed(sealed.body.replace(b'"rule":"mine"', b'"rule":"ours"'), sealed.signature)

    tries: dict[str, Callable[[str], Sealed]] = {
        "signature": lambda nonce: seal_ticket(forger.ticket(forger.target_id, nonce), SigningKey.generate().sign),
        "coordinator's signature": altered,
        "live for": lambda nonce: seal_ticket(forger.ticket(forger.target_id, nonce, lifetime_s=0.0), sign),
        "another stream": lambda nonce: seal_ticket(forger.ticket(forger.target_id, "0" * 32), sign),
        "comes next: a replay": lambda nonce: seal_ticket(forger.ticket(forger.target_id, nonce, sequence=1), sign),
    }
    before = len(refusals(forger.target))
    for why, make in tries.items():
        report = asyncio.run(forger.open(make))
        assert isinstance(report, Failed) and report.code == "bad_ticket" and why in report.message
        assert why in refusals(forger.target)[0]
    assert len(refusals(forger.target)) == before + len(tries)


def test_a_ticket_whose_time_is_over_opens_no_pieces_and_is_kept(household: Fleet) -> None:
    forger = Forger(household)
    shower = household.workers[1]  # shows worker-1 a ticket of its own, twice
    ticket = forger.ticket(id_of(shower), "0" * 32, lifetime_s=0.05)
    headers = [ticket_header(seal_ticket(ticket, forger.registrar.authority.sign))]

    async def show() -> list[int]:
        async with await dial([forger.address], context_of(shower), lambda der: True, 3.0) as connection:
            path, statuses = f"/peer/pieces/{forger.digest}/manifest", []
            for _ in range(2):
                statuses.append(
                    (await connection.request("GET", path, headers, timeout_s=5, limit_bytes=1 << 20)).status
                )
                await asyncio.sleep(0.06)
            return statuses

    assert asyncio.run(show()) == [200, 403]
    assert "time is over" in refusals(forger.target)[0]


def test_another_worker_s_certificate_opens_no_ring_and_no_ledger(household: Fleet) -> None:
    one, two = household.workers

    async def ask(as_member: Member, method: str, path: str) -> int:
        async with await dial([peer_of(one)], context_of(as_member), lambda der: True, 3.0) as connection:
            return (await connection.request(method, path, timeout_s=5, limit_bytes=8 << 20)).status

    assert asyncio.run(ask(two, "POST", "/peer/rings")) == 403
    assert "only the swarm's coordinator opens rings" in refusals(one)[0]
    for path in ("/peer/ledger/tickets", "/peer/ledger/verdict"):
        assert asyncio.run(ask(two, "GET", path)) == 403
        assert asyncio.run(ask(household.coordinator, "GET", path)) == 200
    for after in ("-1", "x", "9" * 30, "%00"):
        assert asyncio.run(ask(household.coordinator, "GET", f"/peer/ledger/tickets?after={after}")) == 400


def test_what_was_tampered_with_on_a_worker_is_named_with_its_node_and_row(household: Fleet) -> None:
    first, two = household.coordinator, household.workers[1]
    answer(household, PAIR, tokens=3)
    answer(household, PAIR, tokens=3)
    last, before = (each["receipt"] for each in told(first, "list", "--limit", "2"))
    assert told(first, "verify")["is_sound"]
    deleted = [row["row"] for row in told(two, "show", last)["rows"]]
    changed = told(two, "show", before)["rows"][0]["row"]
    two.process.kill()
    two.process.wait(10)
    connection = sqlite3.connect(two.folder / "node.db")
    with connection:
        connection.executemany("DELETE FROM ledger WHERE seq = ?", [(seq,) for seq in deleted])
        connection.execute("UPDATE ledger SET body = replace(body, 'chat', 'talk') WHERE seq = ?", (changed,))
    connection.close()

    silent = told(first, "verify")
    assert "worker-2" in silent["not_checked"] and silent["is_sound"]
    assert "worker-2: not checked" in ledger(first, "verify").stdout
    household.restart(two)
    household.wait_ready()
    verdict = told(first, "verify", status=1)
    (chain,) = (each for each in verdict["chains"] if each["node"] == "worker-2")
    assert ("changed", changed, changed) in [(f["kind"], f["first"], f["last"]) for f in chain["findings"]]
    assert {seq for f in chain["findings"] for seq in range(f["first"], f["last"] + 1)} == {changed, *deleted}
    assert all(each["is_sound"] for each in verdict["chains"] if each["node"] != "worker-2")
    findings = {each["kind"]: each for each in verdict["comparison"]["findings"]}
    assert findings["no_ticket"]["request_id"] == last and findings["no_ticket"]["node"] == "worker-2"
    assert findings["unsigned"]["row"] == changed and findings["unsigned"]["node"] == "worker-2"
    said = ledger(first, "verify")
    assert said.returncode == 1 and last in said.stdout and f"row {changed} was changed" in said.stdout


def test_a_replayed_ticket_is_refused_and_work_that_no_decision_stands_for_is_found(household: Fleet) -> None:
    forger, used = Forger(household), list[Sealed]()

    def genuine(nonce: str) -> Sealed:
        used.append(seal_ticket(forger.ticket(forger.target_id, nonce), forger.registrar.authority.sign))
        return used[-1]

    assert isinstance(asyncio.run(forger.open(genuine)), Ready)  # who has the coordinator's key is obeyed
    report = asyncio.run(forger.open(lambda nonce: used[0]))
    assert isinstance(report, Failed) and "another stream" in report.message
    assert "another stream" in refusals(forger.target)[0]
    (row,) = forger.target.call.ask("GET", "/api/ledger?kind=ticket&limit=1")["rows"]
    found = told(household.coordinator, "verify", status=1)["comparison"]["findings"]
    (finding,) = (each for each in found if each["node"] == "worker-1")
    assert (finding["kind"], finding["row"]) == ("no_decision", row["row"])
