"""The engine on a real database, compared with the model after every step."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from pymongo import MongoClient

from app.models.ids import uuid7
from app.models.job import Job
from app.models.outcome import Outcome
from app.repositories.indexes import create_indexes
from app.repositories.mongo import Client, Database, open_client
from app.targets.target import Delivery
from tests.integration.engine.life.invariants import (
    ExpectedSlots,
    judge_executions,
    judge_jobs,
    judge_overlap,
)
from tests.integration.engine.life.model import Model
from tests.integration.engine.life.records import (
    Key,
    ModelExecution,
    ModelGap,
    ModelJob,
    ModelLease,
)
from tests.support.changes import Document
from tests.support.clock import ManualClock
from tests.support.engine import World
from tests.support.replay import UNFINISHED

T = TypeVar("T")

picks = st.integers(0, 11)
"""A number that a step takes modulo the number of candidates, to choose one."""


class SteadyWorld(World):
    """A world whose ids depend only on the clock and their order.

    Jitter depends on the ids, so a repeated example has the same jitter.
    """

    ids_made = 0

    def new_id(self) -> str:
        self.ids_made += 1
        milliseconds = int(self.clock.now().timestamp() * 1000)
        return uuid7(milliseconds, self.ids_made.to_bytes(10, "big"))


class DatabaseSession:
    """The event loop, the database and its clients, which all examples share."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name = uri, name
        self.loop = asyncio.new_event_loop()
        self.client: Client = self.run(self._open())
        self.mongo: MongoClient[Document] = MongoClient(uri, tz_aware=True, timeoutMS=10_000)
        self.documents = self.mongo.get_database(name)

    async def _open(self) -> Client:
        client = open_client(self.uri, timeout=timedelta(seconds=8))
        await create_indexes(Database(client, self.name, clock=ManualClock()))
        return client

    def run(self, work: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 20))

    def open_empty_world(self) -> World:
        """Delete all jobs and executions, and return a world in the database."""
        for collection in ("jobs", "executions", "meta"):
            self.documents[collection].delete_many({})
        clock = ManualClock()
        database = Database(self.client, self.name, clock=clock)
        return SteadyWorld(database, clock, self.uri, self.name)

    def close(self) -> None:
        self.client.close()
        self.mongo.close()
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()


@contextmanager
def open_session(uri: str, name: str) -> Iterator[DatabaseSession]:
    session = DatabaseSession(uri, name)
    try:
        yield session
    finally:
        session.close()


@dataclass(slots=True)
class RunningAttempt:
    """An attempt that a worker runs, with or without a valid lease."""

    worker: int
    execution_id: str
    lease: ModelLease
    until: datetime
    """The worker may assume until then that it holds the lease."""
    outcome: "asyncio.Future[Outcome]"
    task: "asyncio.Task[None]"


class CheckedEngine(RuleBasedStateMachine):
    """The processes of the service, the model, and the checks after every step."""

    def __init__(self, session: DatabaseSession) -> None:
        super().__init__()
        self.session = session
        self.world = session.open_empty_world()
        self.processes = [self.world.compose_process(), self.world.compose_process()]
        self.third_process = self.world.compose_process()
        """Fires, reaps and claims, but never delivers."""
        self.model = Model(self.world.clock.now(), self._find_promoted)
        self.running: list[RunningAttempt] = []
        self.outcomes: dict[tuple[str, int], asyncio.Future[Outcome]] = {}
        """The futures that the target waits for, by execution id and attempt number.

        A step sets their results.
        """
        self.delivery_began = asyncio.Event()
        self.delayed_batch: tuple[list[Job], list[ModelJob], datetime] | None = None
        self.world.targets.outcome_of = self._deliver
        self.jobs = self.third_process.runtime.jobs
        self.execution_service = self.third_process.runtime.executions
        self.expected_slots = ExpectedSlots()
        self.most_attempts: dict[str, int] = {}
        self.previous_documents: tuple[dict[str, Document], dict[str, Document]] = ({}, {})

    def _deliver(self, delivery: Delivery) -> "asyncio.Future[Outcome]":
        outcome: asyncio.Future[Outcome] = self.session.loop.create_future()
        self.outcomes[delivery.execution_id, delivery.attempt] = outcome
        self.delivery_began.set()
        return outcome

    def teardown(self) -> None:
        async def end_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            self.session.loop.run_until_complete(end_all())
        finally:
            for process in self.world.processes:
                process.heartbeat.close()

    @invariant()
    def learn_and_check(self) -> None:
        """Learn the `run_at` that the engine chose, then compare the documents with the model."""
        executions = {e["_id"]: e for e in self.session.documents["executions"].find()}
        jobs = {job["_id"]: job for job in self.session.documents["jobs"].find()}
        self._learn_start_times(executions.values())
        self._check_invariants(executions, jobs)
        self._check_executions(executions.values())
        self._check_jobs(jobs)
        self._check_coverage()
        self.previous_documents = executions, jobs

    def _learn_start_times(self, documents: Collection[Document]) -> None:
        """Where the model allows several values of `run_at`, take the stored one."""
        for document in documents:
            expected = self.model.executions.get(_key(document))
            run_at = document["run_at"]
            if expected is not None and expected.run_at <= run_at <= expected.run_by:
                expected.run_at = expected.run_by = run_at

    def _check_executions(self, documents: Collection[Document]) -> None:
        keys = Counter(_key(document) for document in documents)
        duplicate_keys = [key for key, count in keys.items() if count > 1]
        assert not duplicate_keys, f"more than one record of {duplicate_keys}"
        unexpected_keys = keys.keys() ^ self.model.executions.keys()
        assert not unexpected_keys, f"recorded or predicted, but not both: {unexpected_keys}"
        for document in documents:
            _compare(document, self._get_prediction(document))

    def _check_jobs(self, stored: dict[str, Document]) -> None:
        assert stored.keys() == self.model.jobs.keys()
        for job in self.model.jobs.values():
            document = stored[job.id]
            facts = (document["active"], document["revision"], document["next_run"])
            assert facts == (job.active, job.revision, job.next_run()), f"{job}: {facts}"
            for found, schedule in zip(document["schedules"], job.schedules, strict=True):
                next_run = (found["id"], found["next_run"])
                assert next_run == (schedule.id, schedule.next_run), f"{job}: {next_run}"
                assert found["runs"] == schedule.runs, f"{job}: runs is {found['runs']}"

    def _check_coverage(self) -> None:
        found = self.session.documents["meta"].find_one({"_id": "scheduling"})
        if found is not None:
            gaps = [ModelGap(**gap) for gap in found["gaps"]]
            expected = self.model.coverage
            assert (found["covered_until"], gaps) == (expected.until, expected.gaps)

    def _check_invariants(self, executions: dict[str, Document], jobs: dict[str, Document]) -> None:
        executions_before, jobs_before = self.previous_documents
        with_exclusivity = ((e, self._is_exclusive(e)) for e in executions.values())
        violations = [
            *judge_executions(executions_before, executions),
            *judge_overlap(with_exclusivity),
            *judge_jobs(jobs_before, jobs),
            *self.expected_slots.judge_slots(jobs.values(), executions.values()),
        ]
        for e in executions.values():
            counted_attempts = sum(attempt.get("error") != "shutdown" for attempt in e["attempts"])
            if counted_attempts > self.most_attempts[e["job_id"]]:
                violations.append(f"{counted_attempts} attempts: {e}")
        assert not violations, "\n".join(violations)

    def _is_exclusive(self, document: Document) -> bool:
        known = self.model.executions.get(_key(document))
        return "live_for" in document if known is None else known.exclusive

    def _read_id(self, key: Key) -> str:
        if isinstance(key, str):
            return key
        found: str = self._read_document(key)["_id"]
        return found

    def _read_document(self, key: Key) -> Document:
        query: Document = {"_id": key}
        if not isinstance(key, str):
            query = {"kind": "scheduled", "schedule_id": key[0], "scheduled_for": key[1]}
        document = self.session.documents["executions"].find_one(query)
        assert document is not None
        return document

    def _get_prediction(self, document: Document) -> ModelExecution:
        return self.model.executions[_key(document)]

    def _find_promoted(self, equal: Sequence[ModelExecution]) -> ModelExecution:
        chosen = [e for e in equal if not self._read_document(e.key)["waiting"]]
        assert len(chosen) == 1, f"promoted: {chosen} of {equal}"
        return chosen[0]


def _key(document: Document) -> Key:
    if document["kind"] == "scheduled":
        return (document["schedule_id"], document["scheduled_for"])
    id_: str = document.get("_id") or document["id"]
    return id_


def _compare(document: Document, expected: ModelExecution) -> None:
    attempts = document["attempts"]
    actual = ModelExecution(
        key=_key(document),
        job_id=document["job_id"],
        slot=document["scheduled_for"],
        run_at=document["run_at"],
        run_by=document["run_at"],
        exclusive=expected.exclusive,
        status=document["status"],
        reason=document.get("reason"),
        waiting=document["waiting"] and document["status"] == "queued",
        place=document.get("place"),
        token=document["lease_token"],
        lease_owner=document.get("lease_owner"),
        lease_until=document.get("lease_until"),
        cancel_requested="cancel_requested_at" in document,
        attempts=[attempt.get("outcome") for attempt in attempts],
        uncounted=sum(attempt.get("error") == "shutdown" for attempt in attempts),
        missed=expected.missed and (document["missed_until"], document["missed_count"]),
    )
    assert actual == expected, f"\nfound     {actual}\npredicted {expected}"
    is_live = "live_for" in document
    assert is_live == expected.is_live, f"live: {is_live}, predicted: {expected}"
    finished = "finished_at" in document
    is_finished = expected.status not in UNFINISHED
    assert finished == is_finished, f"finished: {finished}, predicted: {expected}"
    numbers = [attempt["number"] for attempt in attempts]
    assert numbers == list(range(1, len(attempts) + 1)), f"attempts {numbers}"
