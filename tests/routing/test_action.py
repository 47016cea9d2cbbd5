"""What a rule does: which nodes a run names, and which actions cannot be."""

from typing import Any

import pytest

from mycoswarm.routing.action import Action, Ask, Deny, External, Run, action_fault, unwrapped
from mycoswarm.routing.snapshot import NodeState

TOWER = NodeState(
    "id-tower", "tower", "LAN", 1, 1.0, 0.001, tags=frozenset({"gpu", "office"}), facts={"cores": 8, "gpu": True}
)


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (Run(), None),
        (Run(nodes=("tower",)), None),
        (Run(nodes=("pi", "id-tower")), None),
        (Run(nodes=("Tower",)), "names other nodes"),
        (Run(tags=("gpu", "office")), None),
        (Run(tags=("gpu", "kids")), "no tag 'kids'"),
        (Run(facts=("cores >= 8", "gpu = true")), None),
        (Run(facts=("cores >= 8", "cores >= 9")), "wants cores >= 9"),
        (Run(facts=("vram_bytes >= 1B",)), "unknown"),
        (Run(facts=("nonsense",)), "cannot be read"),
        (Run(places=("this-machine",)), "it is LAN"),
        (Run(places=("outside",)), "it is LAN"),
        (Run(nodes=("tower",), tags=("gpu",), facts=("cores > 1",), places=("LAN",)), None),
        (Run(nodes=("pi",), tags=("gpu",)), "names other nodes"),
        (Run(prefer=("pi",)), None),
    ],
)
def test_a_run_is_for_the_nodes_that_all_its_parts_name(run: Run, why: str | None) -> None:
    found = run.fault(TOWER)
    assert found is None if why is None else why in (found or "")


def test_nodes_outside_are_only_reached_where_the_rule_says_so() -> None:
    far = NodeState("id-far", "far", "outside", 1, 1.0, 0.001)
    assert Run().fault(far) is not None and Run(nodes=("far",)).fault(far) is not None
    assert Run(places=("outside",)).fault(far) is None


def test_what_is_asked_for_is_what_is_done_after_the_yes() -> None:
    for done in (Run(split="solo"), External(name="cloud")):
        assert unwrapped(Ask(then=done)) is done and unwrapped(done) is done


@pytest.mark.parametrize(
    "action",
    [
        Run(nodes=("",)),
        Run(nodes=("x" * 201,)),
        Run(tags=("a\x1b[2J",)),
        Run(prefer=("p",) * 257),
        Run(facts=("vram >= 24GiB",)),
        Run(facts=("vram_bytes >= 24",)),
        Run(places=()),
        Run(places=("LAN",) * 4),
        External(name=""),
        External(name="x", model=""),
        External(name="a\nb"),
        Ask(then=Run(), within_s=0.5),
        Ask(then=Run(), within_s=3601),
        Ask(then=Run(), within_s=float("nan")),
        Ask(then=External(name="")),
        Deny(message=""),
        Deny(message="x" * 501),
        Deny(message="\ud800"),
    ],
)
def test_an_action_that_cannot_be_is_a_fault(action: Action) -> None:
    assert action_fault(action) is not None


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (Run(), "run on any adopted node (this-machine, LAN; split allowed)"),
        (Run(nodes=("pi",), tags=("gpu",), split="solo"), "run on pi, tag gpu (this-machine, LAN; solo)"),
        (External(name="cloud"), "send to the endpoint cloud"),
        (Ask(then=External(name="cloud", model="big")), "ask the owner, then send to the endpoint cloud as big"),
        (Deny(message="no"), "deny"),
    ],
)
def test_an_action_says_what_it_does_in_words(action: Any, words: str) -> None:
    assert action_fault(action) is None and action.words() == words
