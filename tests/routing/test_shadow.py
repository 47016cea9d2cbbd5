"""Rules that can never match."""

import time
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.routing.action import Deny, Run
from mycoswarm.routing.clause import Hours, Labels, Span, When, glob_of, view_of
from mycoswarm.routing.rule import Rule, RuleSet
from mycoswarm.routing.shadow import Shadow, shadows
from routing.worlds import Maker


def by(*whens: When) -> str | None:
    """What covers the last of some rules; "" where its own conditions contradict, None where it can match."""
    rules = [Rule(name=f"r{index}", when=when) for index, when in enumerate(whens)]
    found = [shadow.by or "" for shadow in shadows(rules) if shadow.rule == rules[-1].name]
    return found[0] if found else None


COVERED = [
    (When(), When()),
    (When(), When(model="x", task="chat", keys=("k",), client=("10.0.0.0/8",), hours=Hours("08:00", "10:00"))),
    (When(model="*"), When()),
    (When(task="**"), When()),
    (When(model="llama*"), When(model="llama*")),
    (When(model="llama*"), When(model="llama-8b")),
    (When(model="llama*"), When(model="llama-*-q4")),
    (When(model="*b"), When(model="llama-*b")),
    (When(model="*-8*"), When(model="llama-8?")),
    (When(model="?[ab]*"), When(model="xb*")),
    (When(model="[ab]x"), When(model="[ab]x")),
    (When(model="[[]*"), When(model="[x")),
    (When(keys=("l*", "b*")), When(keys=("lena", "bot"))),
    (When(users=("*",)), When(users=("lena",))),
    (When(labels=Labels(any=("a", "b"))), When(labels=Labels(any=("a",)))),
    (When(labels=Labels(any=("a", "b"))), When(labels=Labels(all=("b", "c")))),
    (When(labels=Labels(all=("a",))), When(labels=Labels(any=("a",)))),
    (When(labels=Labels(none=("a",))), When(labels=Labels(none=("a", "b")))),
    (When(labels=Labels(none=("public",))), When(labels=Labels(all=("private",)))),
    (When(labels=Labels(none=("public",))), When(labels=Labels(any=("private", "household")))),
    (When(labels=Labels(any=("b",))), When(labels=Labels(any=("a", "b"), none=("a",)))),
    (When(characters=Span(0, 100)), When(characters=Span(10, 100))),
    (When(characters=Span(5)), When(characters=Span(5, 7))),
    (When(client=("10.0.0.0/8",)), When(client=("10.1.0.0/16", "10.2.3.4"))),
    (When(client=("10.0.0.0/9", "10.128.0.0/9")), When(client=("10.0.0.0/8",))),
    (When(client=("::ffff:10.0.0.0/104",)), When(client=("10.0.0.0/16",))),
    (When(hours=Hours("22:00", "06:00")), When(hours=Hours("23:00", "05:00", ("fri",)))),
    (When(hours=Hours("00:00", "24:00")), When()),
]
NOT_COVERED = [
    (When(model="llama*"), When()),
    (When(model="llama*"), When(model="*")),
    (When(model="llama?"), When(model="llama*")),
    (When(model="[ab]x"), When(model="?x")),
    (When(model="x*"), When(model="[xy]*")),
    (When(keys=("*",)), When()),  # the owner has no key
    (When(users=("*",)), When(keys=("a",))),
    (When(keys=("l*",)), When(keys=("lena", "bot"))),
    (When(labels=Labels(any=("a",))), When(labels=Labels(any=("a", "b")))),
    (When(labels=Labels(all=("a",))), When()),
    (When(labels=Labels(none=("private",))), When(labels=Labels(any=("public", "work")))),
    (When(labels=Labels(any=("public",))), When(labels=Labels(none=("private", "household")))),
    (When(characters=Span(0, 100)), When(characters=Span(10))),
    (When(characters=Span(1)), When()),
    (When(client=("10.0.0.0/8",)), When(client=("10.0.0.0/7",))),
    (When(client=("0.0.0.0/0",)), When(client=("::/0",))),
    (When(client=("0.0.0.0/0", "::/0")), When()),
    (When(hours=Hours("22:00", "06:00")), When(hours=Hours("22:00", "06:01"))),
    (When(hours=Hours("22:00", "06:00")), When(hours=Hours("22:00", "06:00", zone="Europe/Berlin"))),
    (When(hours=Hours("00:00", "23:59")), When()),
]
CONTRADICTIONS = [
    Labels(all=("a",), none=("a",)),
    Labels(any=("a", "b"), none=("b", "a")),
    Labels(all=("private", "public")),
    Labels(all=("private",), any=("public", "household")),
    Labels(any=("public",), all=("private",)),
    Labels(any=("private",), all=("household",), none=("x",)),
]


@pytest.mark.parametrize(("earlier", "later"), COVERED)
def test_a_rule_that_one_earlier_rule_covers_is_named(earlier: When, later: When) -> None:
    assert by(earlier, later) == "r0"


@pytest.mark.parametrize(("earlier", "later"), NOT_COVERED)
def test_a_rule_that_can_match_is_not_named(earlier: When, later: When) -> None:
    assert by(earlier, later) is None


@pytest.mark.parametrize("labels", CONTRADICTIONS)
def test_conditions_that_contradict_are_named_without_another_rule(labels: Labels) -> None:
    assert by(When(), When(labels=labels)) == ""
    assert by(When(labels=labels), When(labels=labels)) == ""


def test_rules_that_are_off_cover_nothing_and_are_not_named() -> None:
    off = Rule(name="off", then=Deny(), enabled=False)
    assert shadows((off, Rule(name="on"), off)) == ()


def test_the_first_rule_that_covers_is_named_and_what_is_done_does_not_matter() -> None:
    rules = (
        Rule(name="some", when=When(model="x")),
        Rule(name="all", then=Deny()),
        Rule(name="late"),
        Rule(name="last", then=Run(split="solo")),
    )
    assert [(shadow.rule, shadow.by) for shadow in shadows(rules)] == [("late", "all"), ("last", "all")]
    assert shadows(rules)[0] == Shadow(
        "late", "all", "every request that it is for is one for 'all', which comes first"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_a_rule_that_is_named_never_matches_a_request(seed: int) -> None:
    maker = Maker(Random(seed))
    named = matched = 0
    for _ in range(60):
        rules = tuple(replace_name(maker.rule(), f"r{index}") for index in range(12))
        never = {shadow.rule for shadow in shadows(rules)}
        ready = RuleSet.of(rules)
        named += len(never)
        for _ in range(60):
            asked = maker.asked()
            asked = replace(asked, model=maker.draw.choice(("spore", "llama-8b", "x-7b", "pore", "")))
            first = ready.first(view_of(asked, asked.labels))
            matched += first is not None
            assert first is None or first.name not in never, (first, shadows(rules))
    assert named > 60 and matched > 1000


def replace_name(rule: Rule, name: str) -> Rule:
    return Rule(name=name, when=rule.when, then=rule.then, fallback=rule.fallback, enabled=rule.enabled)


globs = st.text(alphabet="ab[]!*?-", min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(globs, globs, st.lists(st.text(alphabet="ab[]!-", max_size=6), max_size=8))
def test_a_glob_that_covers_another_matches_all_that_it_matches(one: str, other: str, texts: list[str]) -> None:
    if by(When(model=one), When(model=other)) is not None:
        for text in (*texts, other.replace("*", "ab"), other.replace("*", "").replace("?", "b")):
            assert glob_of(other)(text) is None or glob_of(one)(text) is not None


@pytest.mark.slow
def test_a_thousand_unlike_rules_are_compared_in_seconds() -> None:
    maker = Maker(Random(1))
    rules = []
    for index in range(1000):
        when = maker.when()
        model = f"*{index}-{'*a' * (index % 3)}-model-of-some-length-*"
        rules.append(Rule(name=f"r{index}", when=When(model=model, labels=when.labels, hours=when.hours)))
    began = time.process_time()
    shadows(rules)
    assert time.process_time() - began < 5  # measured: about 1 s on a busy machine
