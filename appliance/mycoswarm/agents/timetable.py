"""Cron texts and the times they name: which schedules are due now, and when each is next. Pure; the clock is passed in.

The wall clock may be wrong or asleep, so nothing here counts ticks. A schedule remembers up to when its times were
looked at, and is due where one of them lies between that and now:

- a time that was missed counts while it is younger than `LATE_S`, and several missed ones count as one;
- a clock set back by less than `SET_BACK_S` runs nothing twice: the schedule waits until its old time is reached;
- one set back further was wrong before: from then on the new time counts. What ran or was made by the new time is
  still not run for again, so a machine that starts in 1970 and then hears the time does not repeat its morning.

Changes to and from summer time are as in Debian's cron: a time that is skipped runs when the clock has been put
forward, one that comes twice runs the first time; texts whose minute or hour begins with a star follow real time.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from mycoswarm.base.errors import InputError
from mycoswarm.store.agenda import ScheduleRow

LATE_S = 86_400.0
SET_BACK_S = 3 * 3600.0  # from where cron(8) calls it a correction of the clock
MAX_CRON = 120  # characters
# In the hour that comes twice the parser gives its times of the first one again: 60 minutes at most.
_REPEATED = 61
_CRON = re.compile(r"[A-Za-z0-9*,/#-]+(?: +[A-Za-z0-9*,/#-]+){4}")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}")

Act = Literal["run", "missed", "set back", "broken"]


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done with a schedule. `at` is the time that it is about."""

    schedule: ScheduleRow
    act: Act
    at: float


def check_times(cron: str, zone: str, now: float) -> float:
    """When a schedule of these is first due after now.

    Raises:
        InputError: the text is no cron text of five fields, it never comes, or the zone is none.
    """
    if len(cron) > MAX_CRON or not _CRON.fullmatch(cron):
        raise InputError(
            f"{cron[:40]!r} is no cron text",
            hint='Write minute, hour, day, month and weekday, for example "0 7 * * *".',
            code="bad_cron",
        )
    following = next_time(cron, zone, now)
    if following is None:
        raise InputError(f"{cron[:40]!r} never comes", hint="Look at its day and month.", code="bad_cron")
    return following


def next_time(cron: str, zone: str, after: float) -> float | None:
    """The first time after that, in seconds since 1970; None where there is none in 50 years.

    Raises:
        InputError: the cron text or the zone is none.
    """
    try:
        moment = datetime.fromtimestamp(after, _zone(zone))
        times = (found.timestamp() for found in islice(CronSim(cron, moment), _REPEATED))
        return next((at for at in times if at > after), None)
    except CronSimError as exc:
        raise InputError(f"{cron[:40]!r} is no cron text: {exc}", code="bad_cron") from exc
    except (AssertionError, TypeError, ValueError, OverflowError, OSError) as exc:
        raise InputError(f"{cron[:40]!r} cannot be reckoned with", code="bad_cron") from exc


def due(schedules: Iterable[ScheduleRow], now: float) -> tuple[Step, ...]:
    """What is to be done now."""
    steps = (_step(one, now) for one in schedules if not one.pause)
    return tuple(step for step in steps if step is not None)


def _step(schedule: ScheduleRow, now: float) -> Step | None:
    seen = schedule.handled_at
    if seen > now + SET_BACK_S:
        return Step(schedule, "set back", now)
    known = [seen, *(at for at in (schedule.since, schedule.ran_at) if at is not None and at <= now)]
    try:
        at = next_time(schedule.cron, schedule.zone, max(now - LATE_S, *known))
        if at is not None and at <= now:
            return Step(schedule, "run", at)
        at = next_time(schedule.cron, schedule.zone, max(known))
    except InputError:  # the table of zones has changed
        return Step(schedule, "broken", now)
    return Step(schedule, "missed", at) if at is not None and at <= now else None


def _zone(name: str) -> ZoneInfo:
    if len(name) <= MAX_CRON and _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError) as exc:
            raise _no_zone(name) from exc
    raise _no_zone(name)


def _no_zone(name: str) -> InputError:
    return InputError(
        f"{name[:40]!r} is no time zone", hint='Write for example "Europe/Berlin" or "UTC".', code="bad_zone"
    )
