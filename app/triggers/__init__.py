"""WHEN: pure rules that name instants. No I/O, no clock.

Every trigger has three methods. Their instants are aware datetimes; slots are in UTC and whole
milliseconds:

- `next_after(instant)` returns the first slot strictly after the instant, or None;
- `last_until(instant)` returns the last slot at or before the instant, or None;
- `count(first, last)` returns the number of slots in [first, last]. It computes the number without
  visiting each slot, so it is fast for any range.
"""

from app.triggers.cron import CronTrigger
from app.triggers.interval import IntervalTrigger
from app.triggers.one_time import OneTimeTrigger

Trigger = CronTrigger | IntervalTrigger | OneTimeTrigger

__all__ = ["CronTrigger", "IntervalTrigger", "OneTimeTrigger", "Trigger"]
