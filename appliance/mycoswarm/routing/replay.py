"""How past requests would have moved under these rules: by the rules alone, as memory and nodes were others then."""

from dataclasses import dataclass
from typing import Literal

from mycoswarm.routing.reach import Reach, Spot, reach_of
from mycoswarm.routing.rule import RuleSet
from mycoswarm.routing.snapshot import Asked, SwarmState

RULES_SAID_NO = ("refused_by_rules", "denied_by_rule")

# unmoved: it may still go there. rule: so it may, by another rule. elsewhere: it may, but another place comes first.
# barred: it may not go there any more. opened: the rules refused it, and would not now. asked: only with a yes now.
Change = Literal["unmoved", "rule", "elsewhere", "barred", "opened", "asked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """A request that was, and what became of it: by which rule and which of its actions, on which nodes (names or ids)
    or at which endpoint, or a refusal's code. `was_asked`: the owner had to say yes."""

    asked: Asked
    rule: str | None
    action: int = 0
    went: tuple[str, ...] = ()
    refused: str | None = None
    was_asked: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """What would become of it now: all that it may reach, and how that differs."""

    past: Past
    reach: Reach
    change: Change

    @property
    def after(self) -> tuple[str, ...]:
        """The names of all that it may reach now."""
        return tuple(spot.names[0] for spot in self.reach.spots)


def replayed(past: Past, rules: RuleSet, swarm: SwarmState) -> Move:
    """Say how a past request would move under these rules, with the nodes and endpoints of now."""
    reach = reach_of(past.asked, rules, swarm)
    return Move(past, reach, _change(past, reach))


def _change(past: Past, reach: Reach) -> Change:
    is_open = reach.outlet not in ("deny", "refuse")
    by: Change = "unmoved" if reach.rule == past.rule else "rule"
    if past.refused is not None and not past.went:
        was_open = past.refused not in RULES_SAID_NO
        if was_open == is_open:
            return by
        return "barred" if was_open else "opened"
    if not is_open or not _covers(reach.spots, past.went):
        return "barred"
    if past.action == 0 and not _covers(reach.first, past.went):
        return "elsewhere"
    return "asked" if reach.outlet == "ask" and not past.was_asked else by


def _covers(spots: tuple[Spot, ...], names: tuple[str, ...]) -> bool:
    known = {name for spot in spots for name in spot.names}
    return known.issuperset(names)
