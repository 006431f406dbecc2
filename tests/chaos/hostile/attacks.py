"""All attacks, by name."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from tests.chaos.hostile import bodies, clients, history, large_responses, receivers, shares
from tests.chaos.hostile.arena import Arena

Attack = Callable[[Arena], Awaitable[object]]
"""Returns what the attacker has seen."""

_HELD_SECONDS = 20
_FILLED_SECONDS = 60
_LOOP_SECONDS = 20


def _without_token(attack: clients.Attack) -> Attack:
    return lambda arena: attack(arena.url)


def _hold_every_slot(owners: int) -> Attack:
    async def attack(arena: Arena) -> str:
        silent_url = f"{arena.receiver_url}/hang"
        async with shares.take_every_slot(arena.attackers[:owners], silent_url) as jobs:
            await asyncio.sleep(_HELD_SECONDS)
        return f"{len(jobs)} jobs"

    return attack


async def _send_expensive_requests(arena: Arena) -> object:
    return await bodies.send_expensive_requests(arena.url, arena.tokens[0])


async def _send_expensive_requests_at_once(arena: Arena) -> object:
    return await bodies.send_expensive_requests(arena.url, arena.tokens[0], parallel=100)


async def _read_large_listings(arena: Arena) -> str:
    headers = {"Authorization": f"Bearer {arena.tokens[0]}"}
    largest = await large_responses.read_large_listings(arena.url, headers)
    return f"a response of {largest} bytes"


async def _fill_the_disk(arena: Arena) -> object:
    return await history.fill_the_disk(arena.url, arena.tokens[0], seconds=_FILLED_SECONDS)


async def _call_itself(arena: Arena) -> str:
    count = await history.call_itself(arena.url, arena.tokens[0], seconds=_LOOP_SECONDS)
    return f"{count} executions"


async def _flood_attempts(arena: Arena) -> object:
    return await receivers.flood_attempts(arena.attackers[0])


ATTACKS: Mapping[str, Attack] = {
    **{name: _without_token(attack) for name, attack in clients.ATTACKS.items()},
    "expensive requests": _send_expensive_requests,
    "100 expensive requests at once": _send_expensive_requests_at_once,
    "large listings": _read_large_listings,
    "every slot, 1 owner": _hold_every_slot(1),
    "every slot, 2 owners": _hold_every_slot(2),
    "every slot, 5 owners": _hold_every_slot(5),
    "a full disk": _fill_the_disk,
    "a job that calls itself": _call_itself,
    "receivers that flood": _flood_attempts,
}
