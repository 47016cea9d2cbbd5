"""The pages about rules and the owner's routes: examples are rules, words are known, addresses are served."""

import re

import msgspec

from house.tree import ROOT
from mycoswarm.api.counter import CounterServices, counter_routes
from mycoswarm.api.rules import RuleServices
from mycoswarm.cli.document import read_document
from mycoswarm.routing.clause import TASKS, When
from mycoswarm.routing.rule import read_rule
from mycoswarm.routing.selector import FACTS
from mycoswarm.routing.trial import Example, Expect, read_trial

PAGE = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")


def test_every_example_is_read() -> None:
    documents = [read_document(text) for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)]
    assert len(documents) > 5 and all(one.rules or one.tests for one in documents)
    for document in documents:
        for rule in document.rules:
            read_rule(rule)
        for name, test in document.tests.items():
            read_trial(name, test["request"], test["expect"])


def test_every_condition_fact_task_and_part_of_a_test_is_named() -> None:
    fields = [*When.__struct_fields__, *Example.__struct_fields__, *Expect.__struct_fields__, *FACTS, *TASKS]
    words = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))
    assert not set(fields) - words


def test_every_address_is_listed() -> None:
    nothing = msgspec.UNSET  # never called
    rules = RuleServices(desk=nothing, explain=nothing, replay=nothing)  # type: ignore[arg-type]  # routes only
    services = CounterServices(rules=rules, endpoints=nothing, approvals=nothing)  # type: ignore[arg-type]  # as above
    listed = (ROOT / "docs" / "console.md").read_text(encoding="utf-8")
    for route in counter_routes(services):
        path = re.sub(r"\{name[^}]*\}", "NAME", re.sub(r"\{id[^}]*\}", "ID", route.path))
        last = path.rpartition("/")[2]
        assert path in listed or f"`/{last}`" in listed, path
