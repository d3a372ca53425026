"""Keys, scopes, origins and hosts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from imi import attempts
from imi.config import ConfigError, Settings
from imi.rules import is_loopback
from imi.server import auth
from imi.server.auth import Keys
from imi.server.errors import ApiError
from tests.conftest import Database
from tests.serving import ADMIN, code, live


def test_a_key_travels_in_either_header(anybody: httpx.Client, key: Callable[[str], str]) -> None:
    read = key("read")
    for headers in ({"X-API-Key": read}, {"Authorization": f"Bearer {read}"}, {"Authorization": f"bearer  {read}"},
                    {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": read}):  # fmt: skip
        assert anybody.get("/api/v1/projects", headers=headers).is_success, headers
    for headers in ({"Authorization": read}, {"Authorization": "Bearer"}, {"X-API-Key": ""}, {"X-API-Key": read + "0"},
                    {"Authorization": "Basic dXNlcjpwYXNz"}):  # fmt: skip
        assert code(anybody.get("/api/v1/projects", headers=headers)) == (401, "UNAUTHENTICATED"), headers


def test_the_key_is_shown_once(api: httpx.Client) -> None:
    made = api.post("/api/v1/api-keys", json={"name": "once", "scope": "read"}).json()
    assert made["key"].startswith("imi_") and len(made["key"]) == 68
    (listed,) = [each for each in api.get("/api/v1/api-keys").json()["items"] if each["id"] == made["id"]]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    events = api.get("/api/v1/events?limit=1000").text
    assert made["key"] not in events and made["id"] not in events


def test_an_expired_key_opens_nothing(api: httpx.Client, anybody: httpx.Client) -> None:
    made = api.post("/api/v1/api-keys", json={"name": "old", "expires_at": "2026-01-01T00:00:00Z"}).json()
    assert code(anybody.get("/api/v1/projects", headers={"X-API-Key": made["key"]})) == (
        401,
        "UNAUTHENTICATED",
    )


def test_a_revoked_key_opens_nothing_after_five_seconds(
    api: httpx.Client, anybody: httpx.Client, key: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = api.post("/api/v1/api-keys", json={"name": "gone", "scope": "read"}).json()
    headers = {"X-API-Key": made["key"]}
    assert anybody.get("/api/v1/projects", headers=headers).is_success
    assert api.delete(f"/api/v1/api-keys/{made['id']}").status_code == 204
    assert api.delete(f"/api/v1/api-keys/{made['id']}").status_code == 204
    assert anybody.get("/api/v1/projects", headers=headers).is_success  # still believed
    now = auth.time.monotonic()
    monkeypatch.setattr(auth.time, "monotonic", lambda: now + auth.KEPT)
    assert code(anybody.get("/api/v1/projects", headers=headers)) == (401, "UNAUTHENTICATED")


def test_every_get_runs_where_nothing_can_write(fresh_database: Database) -> None:
    fresh_database.server.run(
        """create or replace function logic.page(p_documents json[], p_total bigint, p_offset integer, p_limit integer)
           returns json language plpgsql volatile security definer as
           $$begin insert into imi.agents (id) values ('sneaky'); return '{}'; end$$""",
        database=fresh_database.name,
    )
    with live(fresh_database.url) as client:
        assert code(client.get("/api/v1/agents")) == (403, "FORBIDDEN")  # a read-only transaction


@pytest.mark.parametrize("stored", ["read", "write", "admin"])
def test_the_operators_key_may_not_be_a_lesser_stored_one(
    api: httpx.Client, database: Database, key: Callable[[str], str], stored: str
) -> None:
    own = key(stored)
    if stored == "admin":
        with live(database.url, api_key=own) as client:
            assert client.get("/health").is_success
        return
    with pytest.raises(ConfigError, match=f"of scope {stored}") as refused, live(database.url, api_key=own):
        pass
    assert own not in str(refused.value)


def test_keys_off_is_for_loopback_alone(database: Database) -> None:
    with pytest.raises(ConfigError, match="IMI_AUTH=off"), live(database.url, auth=False, host="0.0.0.0"):
        pass


def test_without_keys_the_host_must_be_this_machine(database: Database) -> None:
    with live(database.url, auth=False) as client:
        del client.headers["Authorization"]
        port = client.base_url.port
        for host in (f"127.0.0.1:{port}", "localhost", f"LOCALHOST:{port}", "[::1]:1", "127.9.9.9"):
            assert client.get("/api/v1/projects", headers={"Host": host}).is_success, host
            assert client.get("/metrics", headers={"Host": host}).is_success, host
        for host in (
            "evil.example",
            f"evil.example:{port}",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
        ):
            for path in ("/api/v1/projects", "/docs", "/health"):
                assert code(client.get(path, headers={"Host": host})) == (403, "FORBIDDEN"), (host, path)
        answer = client.post("/api/v1/api-keys", json={"name": "all"})
        assert answer.status_code == 201


@pytest.mark.parametrize(
    ("name", "loopback"),
    [
        ("localhost", True),
        ("::1", True),
        ("127.0.0.1", True),
        ("10.0.0.1", False),
        ("127.0.0.1@evil", False),
        ("127.0.0.256", False),
        (None, False),
    ],
)
def test_loopback_names(name: str | None, loopback: bool) -> None:
    assert is_loopback(name) is loopback


GOOD, EVIL = "https://board.example", "https://evil.example"


@pytest.fixture(scope="module")
def shared(database: Database) -> Any:
    with live(database.url, cors_origins=(GOOD,)) as client:
        yield client


def test_a_listed_origin_reads_the_answer(shared: httpx.Client) -> None:
    for answer in (
        shared.get("/api/v1/projects", headers={"Origin": GOOD}),
        shared.get("/api/v1/nothing", headers={"Origin": GOOD}),
        shared.post("/api/v1/projects", json={"remote_origin": "/tmp/cors"}, headers={"Origin": GOOD}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == GOOD
        assert answer.headers["Vary"] == "Origin"
        assert "X-Next-Cursor" in answer.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_foreign_origin_reads_nothing_and_changes_nothing(shared: httpx.Client) -> None:
    own = f"127.0.0.1:{shared.base_url.port}"
    for origin in (EVIL, "null", GOOD + ".evil.example", "http://board.example", f"ftp://{own}", own):
        answer = shared.get("/api/v1/projects", headers={"Origin": origin})
        assert answer.status_code == 200
        assert not any(name.startswith("access-control") for name in answer.headers)
        answer = shared.post(
            "/api/v1/projects", json={"remote_origin": "/tmp/evil"}, headers={"Origin": origin}
        )
        assert code(answer) == (403, "FORBIDDEN")
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert shared.get("/api/v1/projects/by-origin?remote_origin=/tmp/evil").status_code == 404


def test_headers_that_are_not_utf_8_are_errors_as_any(
    shared: httpx.Client, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    answer = shared.post(
        "/api/v1/projects", json={"remote_origin": "/tmp/e"}, headers={"Origin": b"http://\xff"}
    )
    assert code(answer) == (403, "FORBIDDEN")
    assert answer.json()["detail"]["params"] == {"origin": r"http://\udcff"}
    for name in ("X-Request-ID", "X-Agent-Id", "X-Correlation-ID", "Content-Type", "Idempotency-Key"):
        answer = shared.post("/api/v1/projects", content=b"{", headers={name: b"\xff"})
        assert answer.json()["detail"]["code"] in ("VALIDATION_ERROR", "UNSUPPORTED_MEDIA_TYPE"), name
    assert code(shared.get("/api/v1/projects", headers={"Authorization": b"Bearer \xff"}))[0] == 401
    with live(database.url, auth=False) as client:
        assert code(client.get("/health", headers={"Host": b"\xff"})) == (403, "FORBIDDEN")
    assert not [each for each in caplog.records if each.exc_info]
    assert len([each for each in caplog.records if each.name == "imi.requests"]) == 8


def test_a_path_is_ascii(shared: httpx.Client) -> None:
    for target in (
        b"/api/v1/links/ticket/\xff",
        b"/api/v1/projects?\xff=1",
        "/api/v1/projects?\u00e9=1".encode(),
    ):
        with socket.create_connection((shared.base_url.host, shared.base_url.port or 0), timeout=10) as wire:
            wire.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert wire.makefile("rb").readline().split()[1] == b"400", target


def test_the_servers_own_page_may_call_it(shared: httpx.Client) -> None:
    own = str(shared.base_url).rstrip("/")
    answer = shared.post("/api/v1/projects", json={"remote_origin": "/tmp/own"}, headers={"Origin": own})
    assert answer.status_code == 201


def test_a_preflight_is_answered_for_a_listed_origin(shared: httpx.Client) -> None:
    asked = {
        "Origin": GOOD,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "x-api-key",
    }
    path = "/api/v1/projects/01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10"
    del shared.headers["Authorization"]
    try:
        answer = shared.options(path, headers=asked)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Access-Control-Allow-Origin"] == GOOD
        assert answer.headers["Access-Control-Allow-Methods"] == "DELETE, GET, HEAD, PATCH"
        assert {"X-API-Key", "Idempotency-Key"} <= set(
            answer.headers["Access-Control-Allow-Headers"].split(", ")
        )
        answer = shared.options(path, headers=asked | {"Origin": EVIL})
        assert code(answer) == (403, "FORBIDDEN")
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert code(shared.options(path, headers={"Origin": GOOD})) == (405, "METHOD_NOT_ALLOWED")
        assert code(shared.options("/nothing", headers=asked)) == (404, "NOT_FOUND")
    finally:
        shared.headers["Authorization"] = f"Bearer {ADMIN}"


def test_metrics_are_open_on_this_machine_alone(anybody: httpx.Client, key: Callable[[str], str]) -> None:
    assert anybody.get("/metrics").is_success
    elsewhere = {"Host": "imi.example"}
    assert code(anybody.get("/metrics", headers=elsewhere)) == (401, "UNAUTHENTICATED")
    assert anybody.get("/metrics", headers=elsewhere | {"X-API-Key": key("read")}).is_success


def test_no_key_reaches_the_log(
    api: httpx.Client, key: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = key("read")
    api.get(
        f"/api/v1/projects?api_key={secret}",
        headers={"X-API-Key": secret, "Authorization": f"Bearer {secret}"},
    )
    api.get("/api/v1/projects", headers={"Authorization": f"Bearer {secret}"})
    shown = "".join(repr(vars(each)) for each in caplog.records if each.name.startswith("imi"))
    assert "/api/v1/projects" in shown
    assert secret not in shown and ADMIN not in shown


async def test_one_look_serves_all_who_ask_at_once_and_five_seconds() -> None:
    looks = []
    gate = asyncio.Event()

    async def look_up(digest: str) -> Any:
        looks.append(digest)
        await gate.wait()
        return {"key_id": "1", "name": "n", "scope": "read"}

    keys = Keys(Settings(), look_up)
    asking = [asyncio.create_task(keys.principal({"X-API-Key": "k"}, "::1")) for _ in range(20)]
    await asyncio.sleep(0)
    gate.set()
    assert {principal.name for principal in await asyncio.gather(*asking)} == {"n"}
    assert (await keys.principal({"X-API-Key": "k"}, "::1")).scope == "read"
    assert len(looks) == 1


async def test_a_look_that_failed_is_not_believed() -> None:
    answers: list[Any] = [OSError("away"), {"key_id": "1", "name": "n", "scope": "read"}]

    async def look_up(_: str) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    keys = Keys(Settings(), look_up)
    with pytest.raises(OSError, match="away"):
        await keys.principal({"X-API-Key": "k"}, "::1")
    assert (await keys.principal({"X-API-Key": "k"}, "::1")).name == "n"


async def test_what_is_kept_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_KEPT", 10)

    async def nobody(_: str) -> None:
        return None

    keys = Keys(Settings(), nobody)
    for n in range(100):
        with pytest.raises(ApiError):
            await keys.principal({"X-API-Key": f"k{n}"}, f"address {n}")
    assert len(keys._good) <= 10 and len(keys._failures._at) <= 10 and not keys._looks


async def test_wrong_keys_forget_no_good_one_and_are_not_looked_up_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []

    async def look_up(digest: str) -> Any:
        looks.append(digest)
        return {"key_id": "1", "name": "n", "scope": "read"} if digest == auth._hash("good") else None

    monkeypatch.setattr(attempts, "MOST_KEPT", 10)
    keys = Keys(Settings(), look_up)
    await keys.principal({"X-API-Key": "good"}, "::1")
    said = []
    for n in range(100):
        with pytest.raises(ApiError) as refused:
            await keys.principal({"X-API-Key": f"k{n}"}, "::1")
        said.append(refused.value.status)
    assert said == [401] * 20 + [429] * 80
    for n in range(100):
        with pytest.raises(ApiError):
            await keys.principal({"X-API-Key": "k"}, f"address {n}")
    assert (await keys.principal({"X-API-Key": "good"}, "::1")).name == "n"
    assert len(looks) == 1 + 20 + 100


async def test_wrong_keys_that_come_at_once_are_all_counted() -> None:
    gate = asyncio.Event()

    async def nobody(_: str) -> None:
        await gate.wait()

    keys = Keys(Settings(), nobody)
    asking = [asyncio.create_task(keys.principal({"X-API-Key": f"k{n}"}, "::1")) for n in range(20)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asking, return_exceptions=True)
    with pytest.raises(ApiError) as refused:
        await keys.principal({"X-API-Key": "another"}, "::1")
    assert refused.value.status == 429
