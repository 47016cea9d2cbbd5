"""Every condition of a rule, at its boundaries."""

from dataclasses import replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mycoswarm.routing.clause import (
    DAYS,
    LEVELS,
    Hours,
    Labels,
    Span,
    When,
    clauses_of,
    glob_of,
    is_label,
    mismatch,
    reduced,
    view_of,
    week_mask,
    when_fault,
)
from mycoswarm.routing.snapshot import Asked

ASKED = Asked("spore", "d", "chat", 10, key_name="lena", user="lena", client="192.168.1.20")


def fault(when: When, asked: Asked = ASKED, labels: str = "") -> str | None:
    """Why the conditions do not hold. They are sound, and both ways to ask agree."""
    assert when_fault(when) is None, when_fault(when)
    view, clauses = view_of(asked, frozenset(labels.split())), clauses_of(when)
    why = mismatch(clauses, view)
    assert (why is None) == all(holds(view) for holds, _ in clauses)
    return why


def holds(when: When, asked: Asked = ASKED, labels: str = "") -> bool:
    return fault(when, asked, labels) is None


def at(text: str, zone: str = "UTC", fold: int = 0) -> Asked:
    return replace(ASKED, at=datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp())


def test_no_condition_holds_for_every_request() -> None:
    assert holds(When()) and holds(When(), Asked("", None, "", 0))


@pytest.mark.parametrize(
    ("glob", "text", "is_met"),
    [
        ("*", "", True),
        ("llama*", "llama", True),
        ("llama*", "a llama", False),
        ("llama", "llama-8b", False),
        ("Llama*", "llama", False),
        ("*", "two\nlines", True),
        ("?", "\n", True),
        ("llama", "llama\n", False),
        ("[ab]c", "bc", True),
        ("[!ab]c", "bc", False),
        ("[", "[", True),
        ("[!]", "[!]", True),
        ("a.b", "axb", False),
        ("(a|b)+$", "a", False),
        ("(a|b)+$", "(a|b)+$", True),
        ("[[]x", "[x", True),
        ("[z-a]", "b", False),
        ("*" * 200 + "b", "a" * 2000, False),
        ("ä?", "äö", True),
    ],
)
def test_a_glob_matches_the_whole_text_and_nothing_in_it_is_a_regular_expression(
    glob: str, text: str, is_met: bool
) -> None:
    assert holds(When(model=glob), replace(ASKED, model=text)) == is_met
    assert holds(When(keys=(glob,)), replace(ASKED, key_name=text)) == is_met
    assert holds(When(users=(glob,)), replace(ASKED, user=text)) == is_met


@given(st.text(alphabet="ab[]!-^\\&~|*?.", min_size=1, max_size=8), st.text(alphabet="ab[]!-^\\", max_size=4))
def test_a_glob_is_what_fnmatch_says(glob: str, text: str) -> None:
    assert (glob_of(glob)(text) is not None) == fnmatchcase(text, glob)


def test_a_tool_has_a_task_of_its_own() -> None:
    call = replace(ASKED, task="tool:web-search")
    assert holds(When(task="tool:*"), call) and holds(When(task="tool:web-*"), call)
    assert not holds(When(task="tool:shell"), call) and not holds(When(task="chat"), call)
    assert holds(When(task="*"), call) and not holds(When(task="c*"), replace(ASKED, task="embedding"))


@pytest.mark.parametrize("task", ["chats", "tool", "tool:", "Chat", "x*", ""])
def test_a_task_that_there_is_not_is_a_fault(task: str) -> None:
    assert when_fault(When(task=task)) is not None


@pytest.mark.parametrize("task", ["chat", "c*", "*", "tool:*", "t*", "[ae]*", "tool:web"])
def test_a_task_that_can_be_is_none(task: str) -> None:
    assert when_fault(When(task=task)) is None


def test_a_request_of_the_owner_has_no_key_and_meets_no_condition_on_one() -> None:
    owner = replace(ASKED, key_name=None, user=None, client=None)
    assert "of the owner" in (fault(When(keys=("*",)), owner) or "")
    assert "unknown" in (fault(When(users=("*",)), owner) or "")
    assert "unknown" in (fault(When(client=("0.0.0.0/0", "::/0")), owner) or "")


def test_one_of_a_list_is_enough_and_a_long_list_is_told_short() -> None:
    assert holds(When(keys=("bot", "l*")))
    why = fault(When(keys=tuple(f"key{i}" for i in range(20)))) or ""
    assert "key7" in why and "key8" not in why and "12 more" in why


@pytest.mark.parametrize(
    ("labels", "held", "why"),
    [
        (Labels(any=("a", "b")), "b", None),
        (Labels(any=("a", "b")), "c", "none of a, b"),
        (Labels(any=("a", "b")), "", "there are no labels"),
        (Labels(all=("a", "b")), "a b c", None),
        (Labels(all=("a", "b")), "a", "without 'b'"),
        (Labels(none=("a", "b")), "c", None),
        (Labels(none=("a", "b")), "", None),
        (Labels(none=("a", "b")), "b", "'b' is excluded"),
        (Labels(any=("a",), all=("b",), none=("c",)), "a b", None),
        (Labels(any=("a",), all=("b",), none=("c",)), "a b c", "'c' is excluded"),
        (Labels(), "", None),
        (Labels(any=("public",)), "private public", "none of public"),
        (Labels(any=("public",)), "household public", "none of public"),
        (Labels(any=("household",)), "household public", None),
        (Labels(any=("household",)), "private household", "none of household"),
        (Labels(none=("public",)), "private public", None),
        (Labels(all=("private", "work")), "private public household work", None),
    ],
)
def test_labels_are_any_all_and_none_of_and_the_strictest_level_counts(
    labels: Labels, held: str, why: str | None
) -> None:
    found = fault(When(labels=labels), labels=held)
    assert found is None if why is None else why in (found or "")


@given(st.frozensets(st.sampled_from([*LEVELS, "work", "kids"])))
def test_of_the_levels_one_is_left_and_all_other_labels(labels: frozenset[str]) -> None:
    left = reduced(labels)
    assert left - set(LEVELS) == labels - set(LEVELS)
    assert [level for level in LEVELS if level in left] == [level for level in LEVELS if level in labels][:1]
    assert reduced(left) == left


@pytest.mark.parametrize("text", ["", "A", "a b", "-a", "ä", "a" * 33, "a\n", "a_b"])
def test_what_is_no_label(text: str) -> None:
    assert not is_label(text) and when_fault(When(labels=Labels(any=(text,)))) is not None


def test_characters_are_half_open() -> None:
    def met(span: Span, count: int) -> bool:
        return holds(When(characters=span), replace(ASKED, prompt_characters=count))

    assert [met(Span(10, 20), count) for count in (9, 10, 19, 20)] == [False, True, True, False]
    assert met(Span(below=1), 0) and not met(Span(below=1), 1)
    assert met(Span(8000), 10**12) and not met(Span(8000), 7999)
    assert fault(When(characters=Span(8000))) == "the prompt has 10 characters, not from 8000"
    assert fault(When(characters=Span(20, 30))) == "the prompt has 10 characters, not from 20 to 30"


@pytest.mark.parametrize("span", [Span(-1), Span(5, 5), Span(6, 5), Span(0, 0), Span(0, 10**30), Span(10**30)])
def test_characters_that_cannot_be_are_a_fault(span: Span) -> None:
    assert when_fault(When(characters=span)) is not None


@pytest.mark.parametrize(
    ("network", "client", "is_met"),
    [
        ("192.168.1.0/24", "192.168.1.0", True),
        ("192.168.1.0/24", "192.168.1.255", True),
        ("192.168.1.0/24", "192.168.2.0", False),
        ("192.168.1.20", "192.168.1.20", True),
        ("192.168.1.0/24", "::ffff:192.168.1.7", True),
        ("::ffff:192.168.1.0/120", "192.168.1.7", True),
        ("::ffff:192.168.1.0/120", "::ffff:192.168.1.7", True),
        ("::ffff:192.168.1.0/120", "192.168.2.7", False),
        ("::/0", "192.168.1.7", False),
        ("0.0.0.0/0", "fe80::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::1", "::1", True),
        ("0.0.0.0/0", "nonsense", False),
        ("0.0.0.0/0", "", False),
        ("0.0.0.0/0", "192.168.001.7", False),
    ],
)
def test_a_client_is_in_a_network_of_its_own_family(network: str, client: str, is_met: bool) -> None:
    assert holds(When(client=(network,)), replace(ASKED, client=client)) == is_met


@pytest.mark.parametrize("text", ["192.168.1.7/24", "192.168.1.0/33", "lan", "", "fe80::%eth0/64", "192.168.1.0/24 "])
def test_what_is_no_network_is_a_fault(text: str) -> None:
    assert when_fault(When(client=(text,))) is not None


def test_hours_are_half_open_and_to_the_minute() -> None:
    when = When(hours=Hours("08:30", "17:00"))
    times = ("08:29:59", "08:30:00", "16:59:59", "17:00:00")
    assert [holds(when, at(f"2024-01-01T{time}")) for time in times] == [False, True, True, False]
    assert fault(when, at("2024-01-01T17:00:00")) == "it is mon 17:00 (UTC), outside the hours"


def test_hours_over_midnight_belong_to_the_day_on_which_they_begin() -> None:
    when = When(hours=Hours("22:00", "06:00", ("fri", "sun")))
    met = {
        "2024-01-05T21:59": False,  # a Friday
        "2024-01-05T22:00": True,
        "2024-01-06T05:59": True,  # Saturday morning is Friday's night
        "2024-01-06T06:00": False,
        "2024-01-06T22:00": False,  # Saturday's own night is not named
        "2024-01-07T03:00": False,
        "2024-01-07T22:00": True,
        "2024-01-08T05:59": True,  # over the end of the week
        "2024-01-08T06:00": False,
        "2024-01-05T03:00": False,  # Thursday's night
    }
    assert {time: holds(when, at(time)) for time in met} == met


def test_hours_to_midnight_end_with_the_day() -> None:
    for end in ("24:00", "00:00"):
        when = When(hours=Hours("22:00", end, ("fri",)))
        assert holds(when, at("2024-01-05T23:59")) and not holds(when, at("2024-01-06T00:00"))
    assert week_mask(Hours()).bit_count() == 7 * 24 * 60


def test_days_alone_are_whole_days_in_their_zone() -> None:
    when = When(hours=Hours(days=("sat", "sun"), zone="Asia/Tokyo"))
    assert not holds(when, at("2024-01-05T14:59")) and holds(when, at("2024-01-05T15:00"))
    assert holds(when, at("2024-01-07T14:59")) and not holds(when, at("2024-01-07T15:00"))


def test_on_the_day_when_clocks_go_forward_an_hour_is_missing() -> None:
    when = When(hours=Hours("02:00", "03:00", zone="Europe/Berlin"))
    assert not any(holds(when, at(f"2024-03-31T{hour:02}:{minute:02}")) for hour in range(4) for minute in (0, 30, 59))
    assert holds(When(hours=Hours("03:00", "04:00", zone="Europe/Berlin")), at("2024-03-31T01:00"))


def test_on_the_day_when_clocks_go_back_an_hour_comes_twice() -> None:
    when = When(hours=Hours("02:00", "03:00", zone="Europe/Berlin"))
    for fold in (0, 1):
        assert holds(when, at("2024-10-27T02:30", "Europe/Berlin", fold))
    assert [holds(when, at(f"2024-10-27T{time}")) for time in ("00:00", "01:59", "02:00", "23:59")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "hours",
    [
        Hours("24:00", "02:00"),
        Hours("24:00", "00:00"),
        Hours("8:00", "10:00"),
        Hours("25:00", "10:00"),
        Hours("08:60", "10:00"),
        Hours("٠٨:00", "10:00"),
        Hours("08:00\n", "10:00"),
        Hours("08:00", "08:00"),
        Hours(days=("monday",)),
        Hours(days=("",)),
        *(Hours(zone=zone) for zone in ("Mars/Base", "", "../etc", "/etc/passwd", "Europe", "a\0b", "x" * 5000, ".")),
    ],
)
def test_hours_that_cannot_be_are_a_fault(hours: Hours) -> None:
    assert when_fault(When(hours=hours)) is not None


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), -float("inf"), 1e18, -1e18, 253402300799.0])
def test_a_time_that_no_calendar_has_meets_no_hours_and_breaks_nothing(moment: float) -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Niue"):
        why = fault(When(hours=Hours("00:00", "12:00", zone=zone)), replace(ASKED, at=moment))
        assert why is not None and ("unknown" in why or "outside the hours" in why)


def test_a_zone_that_has_gone_from_the_machine_meets_no_hours() -> None:
    view = view_of(ASKED, frozenset())
    assert "unknown" in (mismatch(clauses_of(When(hours=Hours(zone="Gone/Zone"))), view) or "")


def test_lists_and_words_are_bounded_and_visible() -> None:
    for wrong in (
        When(keys=("k",) * 257),
        When(users=("x" * 257,)),
        When(model=""),
        When(model="a\x1b[2J"),
        When(keys=("\ud800",)),
        When(labels=Labels(any=("a",) * 257)),
        When(hours=Hours(days=("mon",) * 257)),
    ):
        assert "at most 256 entries" in (when_fault(wrong) or "")


def by_the_clock(hours: Hours) -> set[int]:
    """The minutes of the week, the slow way."""
    begin, end = (int(text[:2]) * 60 + int(text[3:]) for text in (hours.begin, hours.end))
    found = set()
    for day in range(7):
        if hours.days and DAYS[day] not in hours.days:
            continue
        minute = begin
        while minute != (end if end > begin else end + 1440):
            found.add((day * 1440 + minute) % 10080)
            minute += 1
    return found


clocks = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))


@settings(max_examples=30, deadline=None)
@given(clocks, clocks | st.just("24:00"), st.lists(st.sampled_from(DAYS), unique=True, max_size=3).map(tuple))
def test_the_minutes_of_the_week_are_those_of_the_clock(begin: str, end: str, days: Any) -> None:
    hours = Hours(begin, end, days)
    if begin != end:
        mask, minutes = week_mask(hours), by_the_clock(hours)
        assert mask.bit_count() == len(minutes) and all(mask >> minute & 1 for minute in minutes)
