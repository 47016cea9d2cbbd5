"""Conditions: trouble that stands until somebody mends it. Shown to the owner; not a log line."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Condition:
    """What is wrong, in words for the owner, what to do, and whom it concerns. `code` is stable.

    `blocks_work` says whether the nodes named get no work while it stands. Only what was seen over authenticated
    channels may block: anybody can announce anything.
    """

    code: str
    message: str
    hint: str
    node_ids: tuple[str, ...] = ()
    blocks_work: bool = False
