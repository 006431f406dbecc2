"""The engine: the loops of one process, and the order in which they start and stop."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from app.clock import Clock
from app.engine.history_limit import HistoryLimit
from app.engine.invalidator import Invalidator
from app.engine.janitor import Janitor, Trimmer
from app.engine.lease_keeper import LeaseKeeper
from app.engine.loop import Loop
from app.engine.reaper import Reaper
from app.engine.response_trimmer import ResponseTrimmer
from app.engine.revision_janitor import RevisionJanitor
from app.engine.scheduler import Scheduler
from app.engine.worker import Worker
from app.wake import Wake

_log = structlog.get_logger(__name__)

_LAST_ROUNDS = timedelta(seconds=5)
"""The time limit of the last rounds that stop and renew the attempts."""


@dataclass(kw_only=True)
class Engine:
    """The parts that the role of the process needs, and the loops that call them."""

    wake: Wake
    clock: Clock
    scheduler: Scheduler | None = None
    worker: Worker | None = None
    keeper: LeaseKeeper | None = None
    reaper: Reaper | None = None
    janitor: Janitor | None = None
    trimmer: Trimmer | None = None
    response_trimmer: ResponseTrimmer | None = None
    revision_janitor: RevisionJanitor | None = None
    history_limit: HistoryLimit | None = None
    invalidator: Invalidator | None = None
    _working: list[Loop] = field(init=False, default_factory=list)
    """These loops take up new work, so they stop first."""
    _watching: list[Loop] = field(init=False, default_factory=list)
    """These loops stop after the last attempt has ended."""

    def __post_init__(self) -> None:
        clock, wake, working = self.clock, self.wake, self._working
        if self.scheduler is not None:
            loop = Loop("scheduler", self.scheduler.tick, clock=clock, wake=wake.schedules)
            working.append(loop)
        if self.worker is not None:
            working.append(Loop("worker", self.worker.tick, clock=clock, wake=wake.executions))
            self._watching += [
                Loop("watch", self.worker.watch, clock=clock),
                Loop("guard", self.worker.guard, clock=clock),
            ]
        if self.reaper is not None:
            working.append(Loop("reaper", self.reaper.tick, clock=clock))
        if self.janitor is not None:
            working.append(Loop("janitor", self.janitor.tick, clock=clock))
        if self.trimmer is not None:
            working.append(Loop("trimmer", self.trimmer.tick, clock=clock))
        if self.response_trimmer is not None:
            loop = Loop("response_trimmer", self.response_trimmer.tick, clock=clock)
            working.append(loop)
        if self.revision_janitor is not None:
            loop = Loop("revision_janitor", self.revision_janitor.tick, clock=clock)
            working.append(loop)
        if self.history_limit is not None:
            limit = self.history_limit
            self._watching.append(Loop("history_limit", limit.tick, clock=clock, wake=limit.wake))
        if self.invalidator is not None:
            self._watching.append(Loop("invalidator", self.invalidator.tick, clock=clock))

    @property
    def loops(self) -> list[Loop]:
        return [*self._working, *self._watching]

    def start(self) -> None:
        self.wake.start()
        if self.keeper is not None:
            self.keeper.start()
        for loop in self.loops:
            loop.start()

    async def stop(self, grace: timedelta) -> None:
        """Stop the loops that take up new work first.

        Leases are renewed and cancels are watched until the last attempt has ended. The last rounds
        of the loops and the running attempts together have the time `grace`; the rest is cancelled.
        """
        running = self.keeper.count_held() if self.keeper is not None else 0
        if running:
            _log.info(
                "waiting_for_executions",
                running=running,
                grace_seconds=grace.total_seconds(),
                then="those that still run are stopped and queued again",
                setting="SHUTDOWN_GRACE_SECONDS",
            )
        end = self.clock.monotonic() + grace.total_seconds()
        if self.scheduler is not None:
            self.scheduler.stop()
        await asyncio.gather(*(loop.stop(grace) for loop in self._working))
        if self.scheduler is not None:
            await self.scheduler.leave()
        if self.worker is not None:
            remaining = timedelta(seconds=max(0.0, end - self.clock.monotonic()))
            await self.worker.drain(remaining)
        await asyncio.gather(*(loop.stop(_LAST_ROUNDS) for loop in self._watching))
        if self.invalidator is not None:  # for what the last rounds have written
            await self.invalidator.tick()
        if self.keeper is not None:
            await self.keeper.stop()
        await self.wake.close()
