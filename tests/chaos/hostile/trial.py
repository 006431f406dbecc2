"""The trial `python -m tests.chaos hostile-clients`: one attack after the other.

The measure for each: the job of another user starts at most 2 s late, none of its slots is skipped,
missed or failed, and `/health/live` answers within 1 s, during the attack and for 10 s after it.
"""

import asyncio
import shutil
import tempfile
from collections import Counter
from datetime import timedelta
from pathlib import Path

from tests.chaos.hostile.arena import Arena, Noticed, Observer, now, open_arena
from tests.chaos.hostile.attacks import ATTACKS, Attack
from tests.chaos.testbed import say

_CALM_SECONDS = 5
_AFTER_SECONDS = 10
_MOST_SECONDS = 600
"""The time limit of one attack."""

_MOST_DELAY = timedelta(seconds=2)
_MOST_ANSWER = timedelta(seconds=1)


async def carry_out_attacks(only: str | None = None) -> bool:
    """Carry out the attacks, or the one with this name. Returns whether the other user noticed
    none of them."""
    attacks = ATTACKS if only is None else {only: ATTACKS[only]}
    folder = Path(tempfile.mkdtemp(prefix="carillon-hostile-"))
    rows = []
    async with open_arena(folder) as (arena, observer):
        await asyncio.sleep(_CALM_SECONDS)
        for name, attack in attacks.items():
            say(f"== {name}")
            noticed = await _measure(arena, observer, attack)
            rows.append((name, noticed))
            say(_describe(noticed))
    bad = [name for name, noticed in rows if not _is_good(noticed)]
    say("nobody noticed" if not bad else f"noticed: {', '.join(bad)}; the logs are in {folder}")
    if not bad:
        shutil.rmtree(folder)
    return not bad


async def _measure(arena: Arena, observer: Observer, attack: Attack) -> Noticed:
    observer.begin()
    since = now()
    async with asyncio.timeout(_MOST_SECONDS):
        say(f"the attacker saw: {await attack(arena)}")
    await asyncio.sleep(_AFTER_SECONDS)
    until = now()
    await asyncio.sleep(_MOST_DELAY.total_seconds() + 1)  # the last slots have started
    return await observer.observe(since, until)


def _is_good(noticed: Noticed) -> bool:
    return (
        not noticed.lost
        and not noticed.refused
        and noticed.worst_delay <= _MOST_DELAY
        and noticed.worst_answer <= _MOST_ANSWER
    )


def _describe(noticed: Noticed) -> str:
    verdict = "good" if _is_good(noticed) else "BAD"
    return (
        f"{verdict}: {noticed.slots} slots, lost: {_list(noticed.lost)}, "
        f"worst start delay {noticed.worst_delay.total_seconds():.2f} s, "
        f"worst answer {noticed.worst_answer.total_seconds():.2f} s, {noticed.refused} refused, "
        f"peak memory {noticed.peak_memory // 1_000_000} MB, "
        f"CPU {noticed.cpu_seconds:.1f} s, waited {noticed.waited_seconds:.1f} s for a CPU, "
        f"longest turn of the loop {noticed.longest_turn:.2f} s"
    )


def _list(lost: Counter[str]) -> str:
    return ", ".join(f"{count} {end}" for end, count in lost.items()) or "none"
