"""Requests name nodes by name or by id: no node may be called what another is."""

from pathlib import Path

import pytest

from household import make_node, make_swarm
from mycoswarm.base.errors import InputError
from mycoswarm.routing.decision import Decision, decide
from mycoswarm.routing.rule import DEFAULT_RULE, RuleSet
from mycoswarm.routing.snapshot import Asked, Narrowing, NodeState, SwarmState
from mycoswarm.swarm.identity import check_name
from routing.test_decision import LOAD


def test_a_node_that_enrols_under_anothers_id_gets_no_prompt_meant_for_that(tmp_path: Path) -> None:
    registrar, coordinator = make_swarm(tmp_path)
    trusted, thief = make_node(tmp_path, "attic"), make_node(tmp_path, "cellar")
    registrar.admit(thief.key.public_der, trusted.node_id, ())  # before the trusted one is there
    registrar.admit(trusted.key.public_der, "attic", ())
    registrar.admit(thief.key.public_der, trusted.node_id, ())
    nodes = tuple(
        NodeState(e.node_id, e.name, "LAN", 10_000, 9e9 if e.node_id == thief.node_id else 1e6, 0.001)
        for e in registrar.roster.entries
    )
    asked = Asked("spore", "d", "chat", 1, Narrowing(nodes=(trusted.node_id,)))
    outcome = decide(
        asked,
        LOAD,
        RuleSet.of((DEFAULT_RULE,)),
        SwarmState(coordinator.node_id, nodes, {"d": frozenset({nodes[0].node_id})}),
    )
    assert isinstance(outcome, Decision)
    assert {share.node.node_id for share in outcome.placed.shares} == {trusted.node_id}


def test_an_owner_cannot_name_a_node_like_an_id() -> None:
    with pytest.raises(InputError):
        check_name("0123456789abcdef" * 2)
    assert check_name("cafe") == "cafe"
