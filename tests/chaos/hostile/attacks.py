"""All attacks, by name."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import httpx2

from tests.chaos.hostile import (
    bodies,
    clients,
    connections,
    history,
    large_responses,
    queues,
    receivers,
    schedules,
    shares,
)
from tests.chaos.hostile.arena import Arena

Attack = Callable[[Arena], Awaitable[object]]
"""Returns what the attacker has seen."""

_HELD_SECONDS = 20
_FILLED_SECONDS = 60
_LOOP_SECONDS = 20


def _without_token(attack: clients.Attack) -> Attack:
    return lambda arena: attack(arena.url)


def _of_user(attack: Callable[[httpx2.AsyncClient], Awaitable[object]]) -> Attack:
    return lambda arena: attack(arena.attackers[0])


async def _hold_bodies(arena: Arena) -> object:
    return await connections.hold_bodies(arena.url, arena.tokens[0])


def _hold_every_slot(owners: int) -> Attack:
    async def attack(arena: Arena) -> str:
        silent_url = f"{arena.receiver_url}/hang"
        async with shares.take_every_slot(arena.attackers[:owners], silent_url) as jobs:
            await asyncio.sleep(_HELD_SECONDS)
        return f"{len(jobs)} jobs"

    return attack


async def _send_expensive_requests_at_once(arena: Arena) -> object:
    return await bodies.send_expensive_requests(arena.attackers[0], parallel=100)


async def _read_large_listings(arena: Arena) -> str:
    headers = {"Authorization": f"Bearer {arena.tokens[0]}"}
    largest = await large_responses.read_large_listings(arena.url, headers)
    return f"a response of {largest} bytes"


async def _fill_the_disk(arena: Arena) -> object:
    return await history.fill_the_disk(arena.url, arena.tokens[0], seconds=_FILLED_SECONDS)


async def _call_itself(arena: Arena) -> str:
    count = await history.call_itself(arena.url, arena.tokens[0], seconds=_LOOP_SECONDS)
    return f"{count} executions"


ATTACKS: Mapping[str, Attack] = {
    "all time zones": _of_user(schedules.name_every_zone),  # the first, before any is known
    **{name: _without_token(attack) for name, attack in clients.ATTACKS.items()},
    "expensive requests": _of_user(bodies.send_expensive_requests),
    "100 expensive requests at once": _send_expensive_requests_at_once,
    "large listings": _read_large_listings,
    "every slot, 1 owner": _hold_every_slot(1),
    "every slot, 2 owners": _hold_every_slot(2),
    "every slot, 5 owners": _hold_every_slot(5),
    "a full disk": _fill_the_disk,
    "a job that calls itself": _call_itself,
    "receivers that flood": _of_user(receivers.flood_attempts),
    "bodies of 256 KB that do not end": _hold_bodies,
    "files that nobody reads": _without_token(connections.leave_files_unread),
    "1,000 health checks at once": _without_token(connections.check_health),
    "slots that are expensive to compute": _of_user(schedules.request_expensive_slots),
    "121 backfills at once": _of_user(queues.backfill_at_once),
    "changes of jobs with long queues": _of_user(queues.change_long_queues),
    "listings of 10,000 jobs": _of_user(queues.list_many_jobs),
    "4,000 slots per second": _of_user(schedules.fire_dense_schedules),
}
