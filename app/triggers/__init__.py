"""WHEN: pure rules that name instants. No I/O, no clock.

Every trigger answers three questions, in UTC and whole milliseconds:

- `next_after(instant)`: the first slot strictly after it, or None when there is none;
- `last_until(instant)`: the last slot at or before it, or None when there is none;
- `count(first, last)`: how many slots lie in [first, last], however many they are.
"""

from app.triggers.cron import CronTrigger
from app.triggers.interval import IntervalTrigger
from app.triggers.one_time import OneTimeTrigger

Trigger = CronTrigger | IntervalTrigger | OneTimeTrigger

__all__ = ["CronTrigger", "IntervalTrigger", "OneTimeTrigger", "Trigger"]
