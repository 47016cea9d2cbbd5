"""What the clock tool says: the time here, or in a place that the table of time zones knows."""

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from mycoswarm.base.errors import InputError


def tell_time(place: str | None, now: float | None = None) -> str:
    """The weekday, date and time. `now`: seconds since 1970; else this moment.

    Raises:
        InputError: no time zone is called so, nor a city that names one.
    """
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    if place is None:
        return _words(moment.astimezone())
    if place.strip().casefold() in ("utc", "gmt"):
        return _words(moment)
    zone = _zone_of(place)
    if zone is None:
        raise InputError("no such place", hint="Name a large city or a time zone such as Europe/Berlin.")
    return _words(moment.astimezone(ZoneInfo(zone)))


def _words(moment: datetime) -> str:
    return moment.strftime("%A %Y-%m-%d %H:%M")


def _zone_of(place: str) -> str | None:
    """The zone of this name, or whose last part is the place: "Europe/Berlin" and "berlin" are the same."""
    wanted = place.strip().casefold().replace(" ", "_")
    names = sorted(available_timezones())
    exact = [name for name in names if name.casefold() == wanted]
    city = [name for name in names if "/" in name and name.rpartition("/")[2].casefold() == wanted]
    return next(iter((*exact, *city)), None)
