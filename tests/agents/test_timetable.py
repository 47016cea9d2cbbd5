"""Which schedules are due, by a clock that is passed in: summer time, leap days, clocks set back, hostile texts."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mycoswarm.agents.timetable import LATE_S, SET_BACK_S, check_times, due, next_time
from mycoswarm.base.errors import InputError
from mycoswarm.store.agenda import Pause, ScheduleRow

BERLIN = "Europe/Berlin"
HOUR = 3600.0


def at(*when: int, zone: str = "UTC", fold: int = 0) -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone), fold=fold).timestamp()  # type: ignore[arg-type, misc]  # whole numbers


def schedule(cron: str = "0 7 * * *", seen: float = at(2026, 3, 1, 12), zone: str = "UTC") -> ScheduleRow:
    return ScheduleRow(
        id="s", cron=cron, zone=zone, agent="helper", task="x", made_at=seen, since=seen, handled_at=seen
    )


def acts(one: ScheduleRow, now: float) -> list[str]:
    return [step.act for step in due([one], now)]


def runs(one: ScheduleRow, first: float, last: float, step_s: float = 60.0) -> list[str]:
    """When it runs, as seen by a clock that ticks on from first to last; each time by its wall clock."""
    found, now = [], first
    while now <= last:
        for step in due([one], now):
            if step.act == "run":
                found.append(datetime.fromtimestamp(now, ZoneInfo(one.zone)).strftime("%d %H:%M%z"))
            one = replace(one, handled_at=now, ran_at=now if step.act == "run" else one.ran_at)
        now += step_s
    return found


def test_a_schedule_is_due_from_its_time_on_and_once() -> None:
    one = schedule()
    seven = at(2026, 3, 2, 7)
    assert acts(one, seven - 1) == [] and acts(one, seven) == ["run"] and acts(one, seven + 4) == ["run"]
    assert acts(replace(one, handled_at=seven), seven + 60) == []
    assert acts(replace(one, pause=Pause.BY_HAND), seven) == []


def test_what_was_missed_runs_once_and_only_if_it_is_younger_than_a_day() -> None:
    hourly = schedule("0 * * * *")
    assert len(due([hourly], hourly.since + 30 * 24 * HOUR + 60)) == 1
    weekly = schedule("0 7 * * mon", at(2026, 3, 1, 12))
    monday = at(2026, 3, 2, 7)
    assert acts(weekly, monday + LATE_S - 1) == ["run"]
    assert acts(weekly, monday + LATE_S + 1) == ["missed"]
    assert due([weekly], monday + LATE_S + 1)[0].at == monday


def test_a_clock_set_back_a_little_runs_nothing_twice() -> None:
    seven = at(2026, 3, 2, 7)
    one = replace(schedule(), handled_at=seven + 5, ran_at=seven + 5)
    assert acts(one, seven - HOUR) == [] and acts(one, seven) == [] and acts(one, seven + 60) == []
    assert acts(one, seven + 24 * HOUR) == ["run"]


def test_a_clock_set_back_far_counts_from_then_on() -> None:
    future, now = at(2030, 1, 1, 7), at(2026, 3, 2, 6, 59)
    one = replace(schedule(), handled_at=future, ran_at=future)
    assert acts(one, now) == ["set back"] and acts(one, future - SET_BACK_S) == []
    assert acts(replace(one, handled_at=now), now + 120) == ["run"]


def test_a_machine_that_starts_in_1970_does_not_repeat_its_morning() -> None:
    seven, boot = at(2026, 3, 2, 7), 1000.0
    one = replace(schedule(), handled_at=seven + 2, ran_at=seven + 2)
    assert acts(one, boot) == ["set back"]
    woken = replace(one, handled_at=boot)
    assert acts(woken, boot + 60) == []
    assert acts(woken, seven + HOUR) == []
    made_later = replace(schedule(seen=seven + 600), handled_at=boot)
    assert acts(made_later, seven + HOUR) == []


def test_one_time_a_day_stays_one_when_summer_time_begins_and_ends() -> None:
    spring = schedule("30 2 * * *", at(2027, 3, 27, 12, zone=BERLIN), BERLIN)
    assert runs(spring, spring.since, at(2027, 3, 29, 12, zone=BERLIN), 300) == ["28 03:00+0200", "29 02:30+0200"]
    autumn = schedule("30 2 * * *", at(2026, 10, 24, 12, zone=BERLIN), BERLIN)
    assert runs(autumn, autumn.since, at(2026, 10, 26, 12, zone=BERLIN), 300) == ["25 02:30+0200", "26 02:30+0100"]


def test_a_list_of_minutes_in_the_hour_that_comes_twice_runs_in_the_first_one() -> None:
    one = schedule("0-59 2 * * *", at(2026, 10, 25, 1, zone=BERLIN), BERLIN)
    found = runs(one, one.since, at(2026, 10, 25, 4, zone=BERLIN))
    assert len(found) == 60 and all(text.endswith("+0200") for text in found)


def test_a_star_follows_real_time_when_the_clock_is_put_back() -> None:
    one = schedule("*/30 * * * *", at(2026, 10, 25, 1, 59, zone=BERLIN), BERLIN)
    assert runs(one, one.since, at(2026, 10, 25, 3, zone=BERLIN)) == [
        "25 02:00+0200",
        "25 02:30+0200",
        "25 02:00+0100",
        "25 02:30+0100",
        "25 03:00+0100",
    ]


def test_leap_days_come_in_leap_years() -> None:
    assert next_time("0 0 29 2 *", "UTC", at(2026, 3, 1)) == at(2028, 2, 29)
    assert next_time("0 0 29 2 *", "UTC", at(2096, 3, 1)) == at(2104, 2, 29)


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "* * * *",
        "* * * * * *",
        "0 0 30 2 *",
        "0 0 */30 2 1#5",
        "60 * * * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "@daily",
        "0 7 * * * ; x",
        "٠ 7 * * *",
        "0 7 * * *\n",
        "9" * 5000 + " * * * *",
        "0 0 1" + ",1" * 5000 + " * *",
    ],
)
def test_what_is_no_cron_text_is_said(cron: str) -> None:
    with pytest.raises(InputError):
        check_times(cron, "UTC", at(2026, 3, 1))


@pytest.mark.parametrize(
    "zone",
    ["", "Nowhere", "Europe", "../../etc/passwd", "/etc/localtime", "Europe/Berlin\0", "A" * 5000, "Europe/Ber lin"],
)
def test_what_is_no_time_zone_is_said(zone: str) -> None:
    with pytest.raises(InputError):
        check_times("0 7 * * *", zone, at(2026, 3, 1))


def test_a_zone_that_is_not_known_any_more_breaks_only_its_own_schedule() -> None:
    gone = replace(schedule(), zone="Gone/Away")
    assert [step.act for step in due([gone, schedule()], at(2026, 3, 2, 7))] == ["broken", "run"]


FIELD = st.text("0123456789*/,-#LWsunmonjan", min_size=1, max_size=12)


@given(st.one_of(st.text(max_size=200), st.lists(FIELD, min_size=4, max_size=6).map(" ".join)), st.floats(-1e18, 1e18))
def test_any_text_at_any_time_is_a_time_to_come_or_an_input_error(cron: str, now: float) -> None:
    try:
        assert check_times(cron, BERLIN, now) > now
    except InputError as error:
        assert error.code in ("bad_cron", "bad_zone")


@given(
    st.sampled_from(["0 7 * * *", "*/5 * * * *", "30 2 * * *", "0 0 29 2 *", "15 1-3 * * sun", "59 23 31 12 *"]),
    st.floats(at(2024, 1, 1), at(2030, 1, 1)),
    st.lists(st.floats(-4 * HOUR, 40 * HOUR), max_size=20),
)
def test_however_the_clock_jumps_no_look_gives_two_steps_and_none_is_given_twice(
    cron: str, now: float, jumps: list[float]
) -> None:
    one = schedule(cron, now, BERLIN)
    for jump in jumps:
        now += jump
        steps = due([one], now)
        assert len(steps) <= 1
        if steps:
            one = replace(one, handled_at=now, ran_at=now if steps[0].act == "run" else one.ran_at)
            assert due([one], now) == ()
            assert steps[0].at <= now


def test_a_tick_in_utc_is_the_time_itself() -> None:
    moment = datetime(2026, 3, 1, 6, 59, 59, 900_000, tzinfo=UTC).timestamp()
    assert next_time("0 7 * * *", "UTC", moment) == at(2026, 3, 1, 7)
