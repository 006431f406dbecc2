"""A URL with an address that the service does not call is rejected when a job is saved."""

import httpx2
import pytest

from tests.support.api import Api, JsonBody, assert_names, create_job, open_api

LOOPBACK: JsonBody = {"type": "http", "url": "http://127.0.0.1:8080/"}
PUBLIC: JsonBody = {"type": "http", "url": "https://example.com/"}


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/",
        "http://localhost:8080/",
        "http://localhost./",
        "http://192.168.1.2/",
        "http://[::1]:8080/",
        "http://[fd00::1]/",
    ],
)
async def test_a_private_address_is_rejected_with_the_setting_that_allows_it(
    alice: httpx2.AsyncClient, url: str
) -> None:
    target = {"type": "http", "url": url}
    created = await alice.post("/jobs", json={"name": "a job", "target": target})
    job = await create_job(alice, target=PUBLIC)
    edited = await alice.patch(f"/jobs/{job['id']}", json={"target": {"url": url}})
    for response in (created, edited):
        assert_names(response, "/target/url")
        assert "HTTP_ALLOW_PRIVATE_HOSTS" in response.json()["detail"]


@pytest.mark.parametrize("url", ["http://169.254.169.254/", "http://[::ffff:127.0.0.1]/"])
async def test_a_special_address_is_rejected(alice: httpx2.AsyncClient, url: str) -> None:
    target = {"type": "http", "url": url}
    response = await alice.post("/jobs", json={"name": "a job", "target": target})
    assert_names(response, "/target/url")
    assert "HTTP_ALLOW_PRIVATE_HOSTS" not in response.json()["detail"]


async def test_the_settings_decide_which_addresses_are_accepted(
    monkeypatch: pytest.MonkeyPatch, mongo_uri: str, database_name: str, redis_url: str
) -> None:
    monkeypatch.setenv("HTTP_ALLOW_PRIVATE_HOSTS", "true")
    monkeypatch.setenv("HTTP_DENY_NETWORKS", "10.0.0.0/8")
    async with (
        open_api(mongo_uri, database_name, redis_url) as api,
        api.open_client("alice") as alice,
    ):
        await create_job(alice, target=LOOPBACK)
        denied = {"type": "http", "url": "http://10.1.2.3/"}
        response = await alice.post("/jobs", json={"name": "a job", "target": denied})
        assert_names(response, "/target/url")
        assert "HTTP_DENY_NETWORKS" in response.json()["detail"]


async def test_a_job_that_was_saved_with_other_settings_can_be_edited_if_its_url_stays(
    monkeypatch: pytest.MonkeyPatch,
    api: Api,
    alice: httpx2.AsyncClient,
    mongo_uri: str,
    database_name: str,
    redis_url: str,
) -> None:
    monkeypatch.setenv("HTTP_ALLOW_PRIVATE_HOSTS", "true")
    async with open_api(mongo_uri, database_name, redis_url, users=False) as other:
        other.ids = api.ids
        async with other.open_client("alice") as client:
            job = await create_job(client, target=LOOPBACK)
    path = f"/jobs/{job['id']}"
    assert (await alice.put(path, json=job)).status_code == 200
    changed = {"target": {"headers": {"X-A": "b"}}}
    assert (await alice.patch(path, json=changed)).status_code == 200
    response = await alice.patch(path, json={"target": {"url": "http://127.0.0.1:8081/"}})
    assert_names(response, "/target/url")
    assert (await alice.patch(path, json={"target": PUBLIC})).status_code == 200
