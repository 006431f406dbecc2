"""A program that uses the service only by the client generated from its OpenAPI document.

`generated_client.py URL USERNAME PASSWORD` prints the statuses of the executions that it read.
It runs in the virtual environment of the generator; the generated package `carillon_client` is in
the same folder.
"""

import datetime
import sys
import time

from carillon_client import AuthenticatedClient, Client
from carillon_client.api.executions import execute_job, list_job_executions
from carillon_client.api.jobs import create_job, get_job
from carillon_client.api.schedules import list_schedules
from carillon_client.api.signing_in import sign_in
from carillon_client.models import (
    BodySignIn,
    CronScheduleIn,
    CronScheduleOut,
    ExecutionStatus,
    IntervalScheduleIn,
    JobCreate,
    LogTargetIn,
    ManualExecutionIn,
)

TIMEOUT_SECONDS = 20


def main(url: str, username: str, password: str) -> None:
    token = sign_in.sync(client=Client(url), body=BodySignIn(username, password))
    client = AuthenticatedClient(url, token=token.access_token)
    job = create_job.sync(
        client=client,
        body=JobCreate(
            name="by a generated client",
            target=LogTargetIn(type_="log"),
            schedules=[
                CronScheduleIn(
                    type_="cron", cron_expression="0 9 * * MON", timezone="Europe/Berlin"
                ),
                IntervalScheduleIn(type_="interval", interval_seconds=3600),
            ],
        ),
        idempotency_key="once",
    )
    assert get_job.sync(job.id, client=client).name == "by a generated client"
    cron, interval = list_schedules.sync(job.id, client=client).items
    assert isinstance(cron, CronScheduleOut)
    assert interval.next_run > datetime.datetime.now(datetime.UTC)

    execute_job.sync(job.id, client=client, body=ManualExecutionIn())
    ends_at = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < ends_at:  # each request takes time, so no pause is needed
        executions = list_job_executions.sync(job.id, client=client).items
        if executions[0].status is ExecutionStatus.SUCCEEDED:
            break
    (attempt,) = executions[0].attempts
    assert attempt.finished_at >= attempt.started_at
    print(*(execution.status for execution in executions))


if __name__ == "__main__":
    main(*sys.argv[1:])
