"""The scripts of `deploy/` that docker-compose.yml runs, on servers of this machine.

There is no Docker and no mongosh here. A stub replaces the entrypoint of the images, and Node runs
the health check with the few functions of mongosh that it uses.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from app.embedded.loopback import is_listening
from app.embedded.mongod import prepare_mongod
from tests.support.service import ROOT, free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

PASSWORDS = {"MONGODB_PASSWORD": "service1", "MONGODB_ROOT_PASSWORD": "root1"}

RUN_COMMAND = """
import json, sys
from pymongo import MongoClient
from pymongo.errors import OperationFailure
port, user, password, command = json.loads(sys.argv[1])
credentials = {"username": user, "password": password} if user else {}
with MongoClient("127.0.0.1", port, directConnection=True, timeoutMS=5000, **credentials) as client:
    try:
        print(json.dumps(client.admin.command(command), default=str))
    except OperationFailure as error:
        print(json.dumps({"failed": error.details["codeName"]}))
"""

MONGOSH = """
const { execFileSync } = require('node:child_process');
const [port, python, runCommand, script] = process.argv.slice(1);
let account = [null, null];
function run(command, [user, password] = account) {
  const input = JSON.stringify([Number(port), user, password, command]);
  const answer = JSON.parse(execFileSync(python, ['-c', runCommand, input]));
  if (answer.failed) throw Object.assign(new Error(answer.failed), { codeName: answer.failed });
  return answer;
}
const admin = {
  auth(user, password) { run({ ping: 1 }, [user, password]); account = [user, password]; },
  getUser: (user) => run({ usersInfo: user }).users[0] ?? null,
  createUser: ({ user, ...rest }) => run({ createUser: user, ...rest }),
  updateUser: (user, rest) => run({ updateUser: user, ...rest }),
};
const db = { getSiblingDB: () => admin, hello: () => run({ hello: 1 }) };
const rs = { initiate(config) {
  config.members[0].host = `127.0.0.1:${port}`;
  run({ replSetInitiate: config });
} };
const quit = (code) => process.exit(code);
new Function('db', 'rs', 'quit', require('node:fs').readFileSync(script, 'utf8'))(db, rs, quit);
"""


@contextmanager
def run_script(
    name: str, arguments: list[str], folder: Path, variables: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a start script. The stubs for programs of the image are in `folder`."""
    stubs = {"docker-entrypoint.sh": 'exec "$@"', "chown": "exit 0"}
    for stub, text in stubs.items():
        (folder / stub).write_text(f"#!/bin/sh\n{text}\n")
        (folder / stub).chmod(0o755)
    mongod = prepare_mongod()
    assert mongod is not None
    path = f"{folder}:{mongod.parent}:{os.environ['PATH']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [ROOT / "deploy" / name / "start.sh", *arguments],
            env={"PATH": path, "TMPDIR": str(folder), **variables},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_command(name: str) -> list[str]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return list(services[name]["command"])


@contextmanager
def run_mongod(folder: Path, port: int) -> Iterator[None]:
    """Run mongod by its start script, with the options of docker-compose.yml."""
    command = " ".join(read_command("mongo")).replace("--bind_ip_all", "--bind_ip 127.0.0.1")
    data = folder / "db"
    data.mkdir(exist_ok=True)
    options = f"--port {port} --dbpath {data} --nounixsocket --oplogSize 64"
    arguments = [*command.replace("GB 1", "GB 0.25").split(), *options.split()]
    with run_script("mongodb", arguments, folder, PASSWORDS):
        wait_until(lambda: is_listening(port), 60)
        yield


def check_health(port: int, variables: Mapping[str, str] = PASSWORDS) -> bool:
    node = shutil.which("node")
    assert node is not None, "There is no node: apt-get install nodejs."
    script = ROOT / "deploy" / "mongodb" / "health.js"
    done = subprocess.run(
        [node, "-e", MONGOSH, str(port), sys.executable, RUN_COMMAND, script],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0


def can_sign_in(port: int, user: str, password: str) -> bool:
    client: MongoClient[dict[str, Any]]
    client = MongoClient(
        "127.0.0.1", port, username=user, password=password, directConnection=True, timeoutMS=5000
    )
    with client:
        try:
            client["carillon"]["jobs"].find_one()
        except OperationFailure:
            return False
        return True


def test_the_health_check_creates_the_replica_set_and_both_accounts_once(tmp_path: Path) -> None:
    port = free_port()
    with run_mongod(tmp_path, port):
        wait_until(lambda: check_health(port), 60)
        assert check_health(port)
        assert can_sign_in(port, "carillon", "service1")
        assert can_sign_in(port, "root", "root1")
        client: MongoClient[dict[str, Any]]
        client = MongoClient("127.0.0.1", port, directConnection=True, timeoutMS=5000)
        with client, pytest.raises(OperationFailure):
            client.admin.command("createUser", "evil", pwd="evil", roles=["root"])


def test_a_changed_password_is_set_and_a_changed_root_password_is_reported(
    tmp_path: Path,
) -> None:
    port = free_port()
    with run_mongod(tmp_path, port):
        wait_until(lambda: check_health(port), 60)
    with run_mongod(tmp_path, port):
        changed = PASSWORDS | {"MONGODB_PASSWORD": "service2"}
        wait_until(lambda: check_health(port, changed), 60)
        assert can_sign_in(port, "carillon", "service2")
        assert not can_sign_in(port, "carillon", "service1")
        unknown = {"MONGODB_PASSWORD": "service3", "MONGODB_ROOT_PASSWORD": "root3"}
        assert not check_health(port, unknown)


@pytest.mark.parametrize("name", ["mongodb", "redis"])
@pytest.mark.parametrize("password", ["", "with space", "new\nline", "p@ss"])
def test_a_password_that_would_change_an_address_or_an_option_is_rejected(
    tmp_path: Path, name: str, password: str
) -> None:
    variables = dict.fromkeys([*PASSWORDS, "REDISCLI_AUTH"], password)
    with run_script(name, [], tmp_path, variables) as process:
        assert process.wait(60) == 1
    assert "must consist of letters and digits" in (tmp_path / "log").read_text()


def test_redis_requires_the_password_which_is_not_among_its_arguments(tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    arguments = [*read_command("redis"), "--port", "0", "--unixsocket", socket.name]
    with run_script("redis", arguments, tmp_path, {"REDISCLI_AUTH": "canary"}) as process:
        wait_until(socket.exists, 60)
        assert "canary" not in Path(f"/proc/{process.pid}/cmdline").read_text()
        command = ["redis-cli", "-s", socket.name, "ping"]
        for variables, answer in ({}, "NOAUTH"), ({"REDISCLI_AUTH": "canary"}, "PONG"):
            environment = {"PATH": os.environ["PATH"], **variables}
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
            )
            assert answer in done.stdout
