"""Wall time: which readings of a wall clock an expression names, zones and their changes apart.

A reading is a number of seconds: the days since 0001-01-01 (Python's ordinal) times 86,400, plus
the second of that day. The rules know the years 1999 to 2101, so that every reading that any
zone shows between 2000 and 2100 is among them.
"""

from bisect import bisect_left, bisect_right
from calendar import monthrange
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from app.triggers.cron_dialect import LAST, DayFields, Fields

DAY = 86_400
FAR_PAST = -1
"""Before any reading: the answer where there is none before."""
FAR_FUTURE = 1 << 62
"""After any reading: the answer where there is none after."""

_FIRST_YEAR, _LAST_YEAR = 1999, 2101


@dataclass(frozen=True, slots=True)
class WallRule:
    """The named readings: each of certain times on each of certain days."""

    days: "DayRule"
    times: "TimesOfDay"

    @classmethod
    def of(cls, fields: Fields) -> "WallRule":
        return cls(_day_rule(fields.day), TimesOfDay(fields.hours, fields.minutes, fields.seconds))

    def first_from(self, reading: int) -> int:
        """The first named reading at or after this one, or FAR_FUTURE."""
        day, second = divmod(reading, DAY)
        rank = self.times.rank(second)
        if rank == self.times.per_day:
            day, rank = day + 1, 0
        found = self.days.first_from(day)
        if found == FAR_FUTURE:
            return FAR_FUTURE
        return found * DAY + self.times.at(rank if found == day else 0)

    def last_until(self, reading: int) -> int:
        """The last named reading at or before this one, or FAR_PAST."""
        day, second = divmod(reading, DAY)
        rank = self.times.rank(second + 1)
        if rank == 0:
            day, rank = day - 1, self.times.per_day
        found = self.days.last_until(day)
        if found == FAR_PAST:
            return FAR_PAST
        return found * DAY + self.times.at((rank if found == day else self.times.per_day) - 1)

    def count(self, start: int, end: int) -> int:
        """How many named readings there are in [start, end), by arithmetic."""
        if end <= start:
            return 0
        return self._count_before(end, since=start) - self._count_before(start, since=start)

    def _count_before(self, reading: int, *, since: int) -> int:
        """Named readings before this one, on the day of `since` and later."""
        day, second = divmod(reading, DAY)
        count = self.days.count(since // DAY, day) * self.times.per_day
        if self.days.holds(day):
            count += self.times.rank(second)
        return count


class TimesOfDay:
    """Every combination of the hours, minutes and seconds, which are sorted, in order of time."""

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
        """How many of the times come before this one."""
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

    def at(self, rank: int) -> int:
        """The second of the day of the time that so many others come before."""
        i, rest = divmod(rank, self._per_hour)
        j, k = divmod(rest, len(self._seconds))
        return (self._hours[i] * 60 + self._minutes[j]) * 60 + self._seconds[k]


class DayRule:
    """The named days, as ordinals. Months that begin alike and are as long have the same days."""

    __slots__ = ("_days_of_kind", "_months")

    def __init__(self, fields: DayFields) -> None:
        self._months = fields.months
        self._days_of_kind = tuple(
            tuple(day for day in range(1, length + 1) if _names(fields, day, first_weekday, length))
            for first_weekday in range(7)
            for length in range(28, 32)
        )

    def holds(self, ordinal: int) -> bool:
        index, day = _place(ordinal)
        return day in self._days_in(index)

    def first_from(self, ordinal: int) -> int:
        """The first named day at or after this one, or FAR_FUTURE."""
        index, wanted = _place(ordinal)
        while index < len(_MONTHS):
            days = self._days_in(index)
            if days and days[-1] >= wanted:
                return _MONTHS[index][0] + days[bisect_left(days, wanted)]
            index, wanted = index + 1, 1
        return FAR_FUTURE

    def last_until(self, ordinal: int) -> int:
        """The last named day at or before this one, or FAR_PAST."""
        index, wanted = _place(ordinal)
        while index >= 0:
            days = self._days_in(index)
            if days and days[0] <= wanted:
                return _MONTHS[index][0] + days[bisect_right(days, wanted) - 1]
            index, wanted = index - 1, 31
        return FAR_PAST

    def count(self, start: int, end: int) -> int:
        """How many named days there are in [start, end), month by month."""
        first_month, first_day = _place(start)
        last_month, last_day = _place(end)
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
    """Shared, because most expressions name the days as `* * *`."""
    return DayRule(fields)


def _names(fields: DayFields, day: int, first_weekday: int, length: int) -> bool:
    """Whether a day is named, of a month whose first day is this weekday (0 for Sunday)."""
    weekday = (first_weekday + day - 1) % 7
    by_day = day in fields.days or (fields.last_day and day == length)
    by_weekday = (
        weekday in fields.weekdays
        or (weekday, (day + 6) // 7) in fields.nth_weekdays
        or (day + 7 > length and (weekday, LAST) in fields.nth_weekdays)
    )
    return by_day and by_weekday if fields.must_match_both else by_day or by_weekday


def _place(ordinal: int) -> tuple[int, int]:
    """The index of the day's month in _MONTHS, and the day of the month."""
    day = date.fromordinal(ordinal)
    return (day.year - _FIRST_YEAR) * 12 + day.month - 1, day.day


def _month(year: int, month: int) -> tuple[int, int, int]:
    """The ordinal of the day before the month, its number, its place in DayRule's table."""
    first_weekday, length = monthrange(year, month)  # 0 is Monday here
    return (
        date(year, month, 1).toordinal() - 1,
        month,
        (first_weekday + 1) % 7 * 4 + length - 28,
    )


_MONTHS = tuple(
    _month(year, month) for year in range(_FIRST_YEAR, _LAST_YEAR + 1) for month in range(1, 13)
)
