"""The files for deployment: no default secret, no unintended port, and only known variables."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from app.settings import Settings, load_settings
from tests.support.documents import find_blocks

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"SECRET_KEY", "ADMIN_PASSWORD"}
STORE_PASSWORDS = {"MONGODB_PASSWORD", "MONGODB_ROOT_PASSWORD", "REDIS_PASSWORD"}
REQUIRED = re.compile(r"\$\{(\w+):\?")
VARIABLES = {name.upper() for name in Settings.model_fields}


@pytest.fixture
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])


@pytest.fixture
def service(services: dict[str, Any]) -> dict[str, Any]:
    return dict(services["carillon"])


def read(name: str) -> str:
    return (ROOT / name).read_text()


def parse_seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def test_compose_uses_only_variables_that_the_example_file_documents() -> None:
    used = set(re.findall(r"\$\{(\w+)", read("docker-compose.yml")))
    documented = set(re.findall(r"^# (\w+)=", read(".env.example"), re.MULTILINE))
    assert used
    assert used <= documented


def test_compose_passes_every_setting_to_the_service(service: dict[str, Any]) -> None:
    elsewhere = {"DATA_DIR", "ROLE"}  # the image sets DATA_DIR, its command sets the role
    assert set(service["environment"]) == VARIABLES - elsewhere


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_compose_does_not_start_without_the_secrets(service: dict[str, Any], name: str) -> None:
    assert service["environment"][name].startswith("${" + name + ":?")


@pytest.mark.parametrize("earlier", ["", "PORT=8001\nADMIN_PASSWORD=already in the file"])
def test_the_lines_of_the_operating_page_fill_what_compose_requires(
    earlier: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = ROOT / "docs" / "operating.md"
    (lines,) = find_blocks(page, "tests/unit/test_deploy_files.py", "sh")
    (tmp_path / ".env").write_text(earlier)
    subprocess.run(["bash", "-euc", lines], cwd=tmp_path, check=True)
    path = tmp_path / ".env"
    assert path.stat().st_mode & 0o777 == 0o600
    values = read_env_file(path)
    kept = dict(line.split("=", 1) for line in earlier.splitlines())
    required = set(REQUIRED.findall(read("docker-compose.yml")))
    assert set(values) - {"PORT"} == required == SECRETS | STORE_PASSWORDS
    assert values | kept == values
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    settings = load_settings(env_file=path, environment="production", host="0.0.0.0")
    assert settings.secret_key is not None
    assert settings.admin_password is not None
    for name in STORE_PASSWORDS:
        assert re.fullmatch(r"[a-z0-9]{32,}", values[name])
    subprocess.run(["bash", "-euc", lines], cwd=tmp_path, check=True)
    assert read_env_file(path) == values


def read_env_file(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if line)


@pytest.mark.parametrize("name", ["carillon", "mongo", "redis"])
def test_every_container_has_limits_of_memory_processes_and_files(
    services: dict[str, Any], name: str
) -> None:
    assert re.fullmatch(r"\d+[mg]", services[name]["mem_limit"])
    assert services[name]["pids_limit"] > 0
    assert services[name]["ulimits"]["nofile"] > 10_000


def test_no_store_can_be_used_without_a_password(services: dict[str, Any]) -> None:
    for name, variable in (("MONGODB_URI", "MONGODB_PASSWORD"), ("REDIS_URL", "REDIS_PASSWORD")):
        address = services["carillon"]["environment"][name]
        assert re.search(rf":\$\{{{variable}:\?[^}}]+\}}@", address)
    assert (
        services["mongo"]["entrypoint"] == services["redis"]["entrypoint"] == ["/deploy/start.sh"]
    )
    assert "--keyFile" in read("deploy/mongodb/start.sh")
    assert "requirepass" in read("deploy/redis/start.sh")


def test_no_password_is_an_argument_of_a_container(services: dict[str, Any]) -> None:
    for one in services.values():
        assert "PASSWORD" not in json.dumps([one.get("command"), one.get("entrypoint")])
        assert "PASSWORD" not in json.dumps(one.get("healthcheck"))


@pytest.mark.parametrize("script", ["mongodb/start.sh", "redis/start.sh"])
def test_the_start_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / "deploy" / script
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", path], check=True)


def test_every_image_has_an_exact_version() -> None:
    built = {"carillon"}
    text = read("docker-compose.yml")
    images = set(re.findall(r"^\s+image: (\S+)", text, re.MULTILINE)) - built
    images |= {line.split()[0] for line in list_instructions("FROM")}
    assert len(images) == 3
    assert all(re.fullmatch(r"[a-z]+:\d+\.\d+\.\d+(-[a-z-]+)?", image) for image in images)


def test_compose_publishes_only_the_service_and_only_on_this_machine(
    services: dict[str, Any],
) -> None:
    published = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert published == {"carillon": ["127.0.0.1:${PORT:-8000}:8000"]}


def test_the_stores_are_on_an_internal_network_only(services: dict[str, Any]) -> None:
    networks = yaml.safe_load(read("docker-compose.yml"))["networks"]
    assert networks["stores"] == {"internal": True}
    assert services["mongo"]["networks"] == services["redis"]["networks"] == ["stores"]


def test_the_service_waits_until_its_stores_are_healthy(services: dict[str, Any]) -> None:
    needs = services["carillon"]["depends_on"]
    for name in ("mongo", "redis"):
        assert needs[name] == {"condition": "service_healthy"}
        assert services[name]["healthcheck"]["test"]


def test_every_service_restarts_automatically(services: dict[str, Any]) -> None:
    assert {one["restart"] for one in services.values()} == {"unless-stopped"}


def test_docker_waits_longer_than_the_service_lets_executions_run(service: dict[str, Any]) -> None:
    grace = int(service["environment"]["SHUTDOWN_GRACE_SECONDS"])
    assert parse_seconds(service["stop_grace_period"]) >= grace + 10


def test_database_files_are_in_named_volumes(services: dict[str, Any]) -> None:
    named = yaml.safe_load(read("docker-compose.yml"))["volumes"]
    used = [volume.split(":")[0] for volume in services["mongo"]["volumes"]]
    assert used == [*named, "./deploy/mongodb"]


def list_instructions(name: str) -> list[str]:
    """Return the values of a Dockerfile instruction, with continued lines joined."""
    joined = read("Dockerfile").replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.*)$", joined, re.MULTILINE)


def test_the_image_runs_without_root_and_without_a_shell() -> None:
    assert list_instructions("USER") == ["carillon"]
    assert json.loads(list_instructions("CMD")[-1]) == ["python", "-m", "app", "all"]


def test_the_image_has_no_secret_and_no_development_tool() -> None:
    assert not SECRETS & set(re.findall(r"\w+", " ".join(list_instructions("ENV"))))
    assert "requirements-dev" not in read("Dockerfile")
    assert set(re.findall(r"(\w+)=", " ".join(list_instructions("ENV")))) - VARIABLES == {
        "PATH",
        "PYTHONUNBUFFERED",
        "PYTHONDONTWRITEBYTECODE",
    }


def test_docker_receives_only_the_files_that_the_image_copies() -> None:
    lines = read(".dockerignore").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        value.split()[0].rstrip("/") for value in list_instructions("COPY") if "--from" not in value
    }
    assert "*" in lines
    assert sent == copied


@pytest.fixture
def health_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server whose /health/live responds with the status in `request.param`."""

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(request.param if self.path == "/health/live" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def run_health_check(port: int) -> int:
    check = json.loads(list_instructions("HEALTHCHECK")[0].split("CMD", 1)[1])
    # There is no such proxy, so a check that uses it fails.
    environment = os.environ | {"PORT": str(port), "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, *check[1:]], env=environment, capture_output=True, check=False
    )
    return done.returncode


@pytest.mark.parametrize("health_port", [200], indirect=True)
def test_the_health_check_passes_if_the_service_is_alive(health_port: int) -> None:
    assert run_health_check(health_port) == 0


@pytest.mark.parametrize("health_port", [503], indirect=True)
def test_the_health_check_fails_if_the_service_responds_503(health_port: int) -> None:
    assert run_health_check(health_port) == 1


def test_the_health_check_fails_if_the_service_does_not_respond() -> None:
    assert run_health_check(9) == 1


def test_every_requirement_is_pinned_once() -> None:
    lines = (read("requirements.txt") + read("requirements-dev.txt")).splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-r "))]
    assert all(re.match(r"[\w.\[\]-]+==[\w.]+", line) for line in wanted)
    names = [re.split(r"[\[=]", line)[0].lower() for line in wanted]
    assert len(names) == len(set(names))


def test_passlib_and_bcrypt_are_not_installed_beside_libpass() -> None:
    """`libpass` has the package `passlib`, so both would write the same files. Hashes are argon2id,
    so bcrypt is not needed."""
    lines = (read("requirements.txt") + read("requirements-dev.txt")).splitlines()
    names = {re.split(r"[\[=]", line)[0].lower() for line in lines}
    assert "libpass" in names
    assert not {"passlib", "bcrypt"} & names
