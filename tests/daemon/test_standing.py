"""Where a node stands decides whom it trusts and who may sign."""

from pathlib import Path

import pytest

from household import make_node, make_swarm, take_in
from mycoswarm.base.errors import NotFoundError
from mycoswarm.daemon.standing import read_standing


def test_a_fresh_node_is_a_swarm_of_one_that_trusts_nobody_else(tmp_path: Path) -> None:
    node = make_node(tmp_path, "attic")
    standing = read_standing(tmp_path / "attic", node)
    roster, signed = standing.roster()
    assert (standing.role, standing.decides, signed) == ("unclaimed", True, None)
    assert [entry.node_id for entry in roster.entries] == [standing.coordinator_id] == [node.node_id]
    assert standing.certificate_pem == standing.authority_pem == node.self_signed_pem
    assert standing.sign is not None
    assert standing.is_signed(b"plan", standing.sign(b"plan")) and not standing.is_signed(
        b"other", standing.sign(b"plan")
    )
    with pytest.raises(NotFoundError, match="no coordinator"):
        standing.coordinating()


def test_a_coordinator_signs_for_its_swarm(tmp_path: Path) -> None:
    registrar, pi = make_swarm(tmp_path)
    standing = read_standing(tmp_path / "pi", pi)
    roster, signed = standing.roster()
    assert (standing.role, standing.decides, standing.swarm_id) == ("coordinator", True, registrar.roster.swarm_id)
    assert standing.coordinating().roster == roster and signed is not None and standing.held is None
    assert standing.sign is not None and standing.is_signed(b"plan", standing.sign(b"plan"))


def test_a_worker_checks_and_cannot_sign(tmp_path: Path) -> None:
    registrar, pi = make_swarm(tmp_path)
    attic, stranger = make_node(tmp_path, "attic"), make_node(tmp_path, "stranger")
    take_in(registrar, attic)
    coordinator = read_standing(tmp_path / "pi", pi)
    standing = read_standing(tmp_path / "attic", attic)
    assert (standing.role, standing.decides, standing.sign) == ("worker", False, None)
    assert standing.coordinator_id == pi.node_id and standing.roster()[0] == registrar.roster
    assert coordinator.sign is not None and standing.is_signed(b"plan", coordinator.sign(b"plan"))
    alone = read_standing(tmp_path / "stranger", stranger)
    assert alone.sign is not None and not standing.is_signed(b"plan", alone.sign(b"plan"))
    with pytest.raises(NotFoundError):
        standing.coordinating()


def test_a_workers_roster_is_the_newest_it_was_brought(tmp_path: Path) -> None:
    registrar, _ = make_swarm(tmp_path)
    attic = make_node(tmp_path, "attic")
    take_in(registrar, attic)
    standing = read_standing(tmp_path / "attic", attic)
    gone = registrar.expel(attic.node_id)
    assert standing.held is not None and standing.held.accept(registrar.signed_roster) == gone
    assert standing.roster()[0].find(attic.node_id) is None
    assert read_standing(tmp_path / "attic", attic).roster()[0].number == registrar.roster.number
