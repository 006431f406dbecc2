"""Wall time: which readings of a wall clock an expression names. It ignores time zones.

A reading is a number of seconds: the day (`date.toordinal`, 1 for 0001-01-01) times 86,400, plus
the second of that day. The rules cover the years 1999 to 2101, because the readings of all zones
between 2000 and 2100 are in these years.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from app.triggers.cron_dialect import LAST, DayFields, Fields

DAY = 86_400
FAR_PAST = -1
"""Before any reading. `last_until` returns it if there is no earlier reading or day."""
FAR_FUTURE = 1 << 62
"""After any reading. `first_from` returns it if there is no later reading or day."""

_FIRST_YEAR, _LAST_YEAR = 1999, 2101


@dataclass(frozen=True, slots=True)
class WallRule:
    """The readings that an expression names: all its times on all its days."""

    days: "DayRule"
    times: "TimesOfDay"

    @classmethod
    def of(cls, fields: Fields) -> "WallRule":
        return cls(_day_rule(fields.day), TimesOfDay(fields.hours, fields.minutes, fields.seconds))

    def first_from(self, reading: int) -> int:
        """Return the first named reading at or after this one, or FAR_FUTURE."""
        day, second_of_day = divmod(reading, DAY)
        rank = self.times.rank(second_of_day)
        if rank == self.times.per_day:
            day, rank = day + 1, 0
        found = self.days.first_from(day)
        if found == FAR_FUTURE:
            return FAR_FUTURE
        return found * DAY + self.times.time_at(rank if found == day else 0)

    def last_until(self, reading: int) -> int:
        """Return the last named reading at or before this one, or FAR_PAST."""
        day, second_of_day = divmod(reading, DAY)
        rank = self.times.rank(second_of_day + 1)
        if rank == 0:
            day, rank = day - 1, self.times.per_day
        found = self.days.last_until(day)
        if found == FAR_PAST:
            return FAR_PAST
        return found * DAY + self.times.time_at((rank if found == day else self.times.per_day) - 1)

    def count(self, start: int, end: int) -> int:
        """Return the number of named readings in [start, end), by arithmetic."""
        if end <= start:
            return 0
        return self._count_before(end, since=start) - self._count_before(start, since=start)

    def _count_before(self, reading: int, *, since: int) -> int:
        """Return the number of named readings before this one, from the day of `since` on."""
        day, second_of_day = divmod(reading, DAY)
        count = self.days.count(since // DAY, day) * self.times.per_day
        if self.days.includes(day):
            count += self.times.rank(second_of_day)
        return count


class TimesOfDay:
    """All combinations of sorted hours, minutes and seconds, in order of time."""

    __slots__ = ("_hours", "_minutes", "_per_hour", "_seconds", "per_day")

    def __init__(
        self, hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]
    ) -> None:
        self._hours = hours
        self._minutes = minutes
        self._seconds = seconds
        self._per_hour = len(minutes) * len(seconds)
        self.per_day = len(hours) * self._per_hour

    def rank(self, second_of_day: int) -> int:
        """Return how many of the times are before this second of the day."""
        minute_of_day, second = divmod(second_of_day, 60)
        hour, minute = divmod(minute_of_day, 60)
        i = bisect_left(self._hours, hour)
        rank = i * self._per_hour
        if i == len(self._hours) or self._hours[i] != hour:
            return rank
        j = bisect_left(self._minutes, minute)
        rank += j * len(self._seconds)
        if j == len(self._minutes) or self._minutes[j] != minute:
            return rank
        return rank + bisect_left(self._seconds, second)

    def time_at(self, rank: int) -> int:
        """Return the second of the day of the time with this rank, counted from 0."""
        i, rest = divmod(rank, self._per_hour)
        j, k = divmod(rest, len(self._seconds))
        return (self._hours[i] * 60 + self._minutes[j]) * 60 + self._seconds[k]


class DayRule:
    """The days that an expression names, as ordinals.

    Months with the same first weekday and the same length have the same days, so the days are
    computed once for each of these 28 kinds of months.
    """

    __slots__ = ("_days_of_kind", "_months")

    def __init__(self, fields: DayFields) -> None:
        self._months = fields.months
        self._days_of_kind = tuple(
            tuple(
                day for day in range(1, length + 1) if _is_named(fields, day, first_weekday, length)
            )
            for first_weekday in range(7)
            for length in range(28, 32)
        )

    def includes(self, ordinal: int) -> bool:
        index, day = _locate_day(ordinal)
        return day in self._days_in(index)

    def first_from(self, ordinal: int) -> int:
        """Return the first named day at or after this one, or FAR_FUTURE."""
        index, wanted = _locate_day(ordinal)
        while index < len(_MONTHS):
            days = self._days_in(index)
            if days and days[-1] >= wanted:
                return _MONTHS[index][0] + days[bisect_left(days, wanted)]
            index, wanted = index + 1, 1
        return FAR_FUTURE

    def last_until(self, ordinal: int) -> int:
        """Return the last named day at or before this one, or FAR_PAST."""
        index, wanted = _locate_day(ordinal)
        while index >= 0:
            days = self._days_in(index)
            if days and days[0] <= wanted:
                return _MONTHS[index][0] + days[bisect_right(days, wanted) - 1]
            index, wanted = index - 1, 31
        return FAR_PAST

    def count(self, start: int, end: int) -> int:
        """Return the number of named days in [start, end). It adds up whole months."""
        first_month, first_day = _locate_day(start)
        last_month, last_day = _locate_day(end)
        whole_months = sum(len(self._days_in(index)) for index in range(first_month, last_month))
        return (
            whole_months
            - bisect_left(self._days_in(first_month), first_day)
            + bisect_left(self._days_in(last_month), last_day)
        )

    def _days_in(self, index: int) -> tuple[int, ...]:
        _, month, kind = _MONTHS[index]
        return self._days_of_kind[kind] if month in self._months else ()


@lru_cache(maxsize=1024)
def _day_rule(fields: DayFields) -> DayRule:
    """Return the rule of these fields. It is cached: most expressions have the days `* * *`."""
    return DayRule(fields)


def _is_named(fields: DayFields, day: int, first_weekday: int, length: int) -> bool:
    """Whether the fields name a day of a month with this first weekday (0 for Sunday)."""
    weekday = (first_weekday + day - 1) % 7
    by_day = day in fields.days or (fields.last_day and day == length)
    by_weekday = (
        weekday in fields.weekdays
        or (weekday, (day + 6) // 7) in fields.nth_weekdays
        or (day + 7 > length and (weekday, LAST) in fields.nth_weekdays)
    )
    return by_day and by_weekday if fields.must_match_both else by_day or by_weekday


def _locate_day(ordinal: int) -> tuple[int, int]:
    """Return the index of the day's month in _MONTHS, and the day of the month."""
    day = date.fromordinal(ordinal)
    return (day.year - _FIRST_YEAR) * 12 + day.month - 1, day.day


def _compute_month(year: int, month: int) -> tuple[int, int, int]:
    """Return the ordinal of the day before the month, the month's number, and its kind.

    The number is from 1 to 12. DayRule explains the kinds.
    """
    first_weekday, length = monthrange(year, month)  # 0 is Monday here
    return (
        date(year, month, 1).toordinal() - 1,
        month,
        (first_weekday + 1) % 7 * 4 + length - 28,
    )


_MONTHS = tuple(
    _compute_month(year, month)
    for year in range(_FIRST_YEAR, _LAST_YEAR + 1)
    for month in range(1, 13)
)
