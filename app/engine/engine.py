"""The engine: the loops of one process, and the order in which they start and stop."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from app.engine.lease import LeaseKeeper
from app.engine.loop import Loop
from app.engine.worker import Worker
from app.wake import Wake

WATCH = "watch"
GUARD = "guard"
_TO_THE_END = {WATCH, GUARD}
"""The names of the loops that go on until the last run has ended."""


@dataclass(kw_only=True)
class Engine:
    """The loops of one process, as its role asks for them."""

    wake: Wake
    loops: list[Loop] = field(default_factory=list)
    worker: Worker | None = None
    keeper: LeaseKeeper | None = None

    def start(self) -> None:
        self.wake.start()
        if self.keeper is not None:
            self.keeper.start()
        for loop in self.loops:
            loop.start()

    async def stop(self, grace: timedelta) -> None:
        """Claims stop first; leases are renewed, and cancels watched, until the last run ends."""
        claiming = [loop for loop in self.loops if loop.name not in _TO_THE_END]
        watching = [loop for loop in self.loops if loop.name in _TO_THE_END]
        await asyncio.gather(*(loop.stop() for loop in claiming))
        if self.worker is not None:
            await self.worker.drain(grace)
        await asyncio.gather(*(loop.stop() for loop in watching))
        if self.keeper is not None:
            await self.keeper.stop()
        await self.wake.close()
