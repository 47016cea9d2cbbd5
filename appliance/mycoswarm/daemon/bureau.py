"""The owner's rules, endpoints and approvals on one node: the one place that joins their parts."""

import time

from mycoswarm.api.approval import ApprovalDesk
from mycoswarm.api.counter import CounterServices
from mycoswarm.api.rules import Replay, RuleServices
from mycoswarm.chat import Surroundings
from mycoswarm.daemon.directory import Directory, Probe
from mycoswarm.daemon.home import Home
from mycoswarm.daemon.keeper import Keeper
from mycoswarm.daemon.rehearsal import Rehearsal


def bureau_of(
    home: Home,
    keeper: Keeper,
    around: Surroundings,
    *,
    probe: Probe | None = None,
    replay: Replay | None = None,
    approvals: ApprovalDesk | None = None,
) -> CounterServices:
    """What the owner's routes need. What is None is not offered."""
    return CounterServices(
        rules=RuleServices(desk=keeper, explain=Rehearsal(around).explain, replay=replay),
        endpoints=Directory(home.endpoints, rules=keeper.rules, wall_clock=time.time, probe=probe),
        approvals=approvals,
    )
