"""Names in rules that nothing answers to: a misspelt node, tag or endpoint would quietly let nothing through."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from mycoswarm.base.errors import SwarmError
from mycoswarm.cli.call import Call
from mycoswarm.cli.screen import note

log = logging.getLogger(__name__)


def warn(call: Call, rules: Iterable[dict[str, Any]]) -> None:
    """Name on stderr what these rules name and the swarm does not have. They are no errors: a node may come later."""
    rules = list(rules)
    if not any(True for rule in rules for _ in _names(rule)):
        return
    try:
        nodes = call.ask("GET", "/api/nodes")["nodes"]
        endpoints = call.ask("GET", "/api/endpoints")["endpoints"]
    except SwarmError as error:  # what the rules are for is done: it must not look as if it had failed
        log.debug("names in rules were not looked up: %s", error.message)
        return
    known = {
        "node": {word for node in nodes for word in (node["name"], node["node_id"])},
        "tag": {tag for node in nodes for tag in node["tags"]},
        "endpoint": {one["name"] for one in endpoints},
    }
    cures = {
        "node": "`mycoswarm-node nodes` lists them",
        "tag": "`mycoswarm-node nodes tag NAME TAG` puts it on a node",
        "endpoint": "`mycoswarm-node endpoints add NAME URL` registers it",
    }
    for rule in rules:
        for kind, name in dict.fromkeys(_names(rule)):
            if name not in known[kind]:
                has = "no node has this tag" if kind == "tag" else f"there is no such {kind}"
                note(f"! {rule['name']} names the {kind} {name}, and {has} now: {cures[kind]}.")


def _names(rule: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for action in (rule.get("then", {}), *rule.get("fallback", ())):
        done = action.get("then", {}) if action.get("do") == "ask" else action
        yield from (("node", name) for field in ("nodes", "prefer") for name in done.get(field, ()))
        yield from (("tag", name) for name in done.get("tags", ()))
        if done.get("do") == "external" and "name" in done:
            yield "endpoint", done["name"]
