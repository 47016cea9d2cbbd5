"""Tickets and answers in a real SQLite file."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mycoswarm.store.database import Store
from mycoswarm.store.ledger import Answer, Ledger, Receipt, Speeds

WRITER = """
import sys
from pathlib import Path
from mycoswarm.store.database import Store
from mycoswarm.store.ledger import Ledger, Receipt
ledger = Ledger(Store(Path(sys.argv[1])))
for i in range(100000):
    ledger.take_ticket(Receipt(float(i), f"r{i}", "rule", "digest", b"body", b"signature"))
    print(i, flush=True)
"""


def answer(number: int) -> Answer:
    return Answer(
        request_id=f"r{number}",
        at=float(number),
        key_name="laptop",
        model="spore",
        model_digest="d",
        rule="any",
        nodes=(("a", 0, 3), ("b", 3, 6)),
        outcome="stop",
        prompt_tokens=3,
        completion_tokens=4,
        seconds=0.5,
    )


def test_what_was_added_is_read_back_newest_first(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    ledger = Ledger(store)
    for number in range(3):
        ledger.add_answer(answer(number))
        ledger.take_ticket(Receipt(float(number), f"r{number}", "any", "d", b"b", b"s"))
    assert ledger.answers(2) == [answer(2), answer(1)]
    assert [receipt.request_id for receipt in ledger.tickets()] == ["r2", "r1", "r0"]
    assert len(ledger.tickets("r1")) == 1
    store.close()


def test_the_newest_speed_is_kept_with_its_date(tmp_path: Path) -> None:
    store = Store(tmp_path / "node.db")
    speeds = Speeds(store)
    speeds.note("a", 1e9, 5.0)
    speeds.note("a", 2e9, 6.0)
    assert speeds.known() == {"a": (2e9, 6.0)}
    store.close()


@pytest.mark.slow
def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=_environment())
    assert child.stdout is not None
    last = 0
    for line in child.stdout:
        last = int(line)
        if last >= 50:
            break
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    child.wait(timeout=10)
    store = Store(path)
    kept = {receipt.request_id for receipt in Ledger(store).tickets(limit=10**6)}
    store.close()
    assert {f"r{i}" for i in range(last + 1)} <= kept


def _environment() -> dict[str, str]:
    source = Path(__file__).resolve().parents[2] / "appliance"
    return {**os.environ, "PYTHONPATH": str(source)}
