"""Health, metrics, a database that stops and comes back, a server that stops while it is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from imi import __version__
from imi.database import deploy, embedded, line, postmaster
from imi.database.cluster import Cluster
from imi.database.lanes import lanes
from imi.database.line import Line
from imi.server import app
from tests.conftest import Database, wait_for
from tests.serving import Things, code, live

HEALTHY = {"status": "healthy", "database": "connected", "bloodbank": "embedded", "version": __version__}
SLOW = """create or replace function api.agent_list(p_offset integer default null, p_limit integer default null)
  returns json language plpgsql stable security definer set search_path = '' as
  $$begin perform pg_advisory_lock(1), pg_advisory_unlock(1); return '{"slow": true}'; end$$"""


def until(true: Callable[[], bool]) -> None:
    """Look again and again for a while."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def test_health(anybody: httpx.Client) -> None:
    answer = anybody.get("/health")
    assert (answer.status_code, answer.json()) == (200, HEALTHY)
    assert anybody.head("/health").status_code == 200


def test_metrics(api: httpx.Client, anybody: httpx.Client, things: Things) -> None:
    for _ in range(3):
        assert api.get(f"/api/v1/projects/{things.project['id']}").is_success
    api.get("/nothing")
    answer = anybody.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = dict(re.findall(r"^([^# ].*) (\S+)$", answer.text, re.MULTILINE))
    got = '{method="GET",route="/api/v1/projects/{project_id}"'
    assert float(lines[f'imi_http_requests_total{got},status="200"}}']) == 3
    assert float(lines[f"imi_http_request_seconds_count{got}}}"]) == 3
    assert float(lines['imi_http_requests_total{method="GET",route="other",status="404"}']) >= 1
    assert float(lines['imi_pool_connections{pool="reader",state="idle"}']) >= 1
    assert float(lines["imi_database_up"]) == 1
    assert float(lines["imi_total_events"]) >= 2
    assert float(lines['imi_lag_events{follower="relay"}']) >= 2  # nobody sends here
    assert float(lines['imi_lag_seconds{follower="imi.commands"}']) > 0
    assert float(lines["imi_workers"]) == 0
    assert "process_resident_memory_bytes" in lines


def test_who_does_not_follow_the_log_is_named(fresh_database: Database) -> None:
    async def behind() -> None:
        owner = await fresh_database.connect()
        await owner.execute("set imi.now = '2026-01-01'")
        await owner.execute("select logic.event_append('imi.test', '{}', '{}')")
        await owner.execute("update bloodbank.subscriptions set paused = true where name <> 'imi.commands'")
        await owner.execute("update bloodbank.subscriptions set handler = 'logic.nothing'")
        await owner.close()

    wait_for(behind())
    with live(fresh_database.url) as client:
        answer = client.get("/health")
    said = answer.json()
    followers = said.pop("followers")
    assert (answer.status_code, said) == (200, HEALTHY | {"status": "degraded"})
    assert followers.pop("imi.commands") == "its handler is missing"
    assert list(followers) == ["relay"] and followers["relay"].startswith("behind for ")


def test_a_bus_that_nothing_speaks_to_is_no_health(database: Database) -> None:
    with live(database.url, rabbitmq_url="amqp://localhost") as client:
        answer = client.get("/health")
        assert (answer.status_code, answer.json()) == (
            200,
            HEALTHY | {"status": "degraded", "bloodbank": "disconnected"},
        )


@pytest.mark.parametrize(
    ("state", "tries"), [("40001", 2), ("40P01", 2), ("0A000", 2), ("XX000", 2), ("55P03", 1), ("57014", 1)]
)
async def test_what_was_rolled_back_is_tried_once_more(state: str, tries: int) -> None:
    """And no more than that, and nothing else."""
    sent: list[str] = []

    class Connection:
        def is_closed(self) -> bool:
            return False

        async def fetch(self, statement: str) -> None:
            sent.append(statement)
            raise asyncpg.PostgresError.new({"C": state, "M": "again"})

    class Pool:
        def get_max_size(self) -> int:
            return 1

        async def acquire(self) -> Connection:
            return Connection()

        async def release(self, connection: Connection) -> None:
            pass

    with pytest.raises(asyncpg.PostgresError):
        await Line(Pool()).fetch("select")  # type: ignore[arg-type]
    assert len(sent) == tries


def test_a_pool_that_is_exhausted_is_503(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "PATIENCE", 0.2)
    with live(fresh_database.url, database_pool_size=1) as client, held(fresh_database.url):
        asking = Asking(client, fresh_database.url)
        answer = client.get("/api/v1/projects")
        assert code(answer) == (503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "1"
        assert client.post("/api/v1/projects", json={"remote_origin": "/tmp/other-pool"}).status_code == 201
        assert not asking.done()


def test_a_full_pool_is_no_database_away(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "PATIENCE", 0.2)
    with live(fresh_database.url, database_pool_size=1) as client, held(fresh_database.url):
        project = client.post("/api/v1/projects", json={"remote_origin": "/tmp/full"}).json()
        asking = Asking(client, fresh_database.url)
        lock = "select id from imi.projects for update"
        with ThreadPoolExecutor(1) as thread, locked(fresh_database.url, lock):
            waiting = thread.submit(client.patch, f"/api/v1/projects/{project['id']}", json={"name": "n"})
            count = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            until(lambda: wait_for(run(fresh_database.url, count)) == 2)
            assert code(client.get("/api/v1/projects")) == (503, "UNAVAILABLE")
            assert code(client.post("/api/v1/projects", json={"remote_origin": "/tmp/x"}))[0] == 503
            assert client.get("/health").json() == HEALTHY
            assert "imi_database_up 1.0" in client.get("/metrics").text
            assert not asking.done() and not waiting.done()


def test_a_database_without_its_functions_says_so(
    fresh_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """As during a rollback, or before migrate: 503 with a hint, and an error in the log."""
    with live(fresh_database.url) as client:
        for change in ("alter function api.project_list rename to gone", "alter schema api rename to gone"):
            fresh_database.server.run(change, database=fresh_database.name)
            answer = client.get("/api/v1/projects")
            assert code(answer) == (503, "UNAVAILABLE")
            assert "imi db migrate" in answer.json()["detail"]["hint"]
            assert answer.headers["Retry-After"] == "1"
            assert [each.levelname for each in caplog.records if each.name == "imi.faults"] == ["ERROR"]
            caplog.clear()


def test_a_password_that_a_restore_has_made_anew_is_read_again(fresh_database: Database) -> None:
    with live(fresh_database.url) as client:
        assert client.get("/api/v1/projects").is_success
        login = f"{fresh_database.name}_reader"
        fresh_database.server.run(
            f"alter role {login} password 'another'",
            f"update imi_meta.secrets set value = 'another' where name = '{login}'",
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{login}'",
            database=fresh_database.name,
        )
        until(lambda: client.get("/api/v1/projects").is_success)
        assert client.get("/health").json() == HEALTHY


def test_loads_of_the_behaviour_lane_fail_no_call(fresh_database: Database) -> None:
    """Functions and views are replaced under the server's feet."""
    with live(fresh_database.url) as client:
        project = client.post("/api/v1/projects", json={"remote_origin": "/tmp/load"}).json()
        stop, answers = threading.Event(), []

        def ask() -> None:
            own = httpx.Client(base_url=client.base_url, headers=client.headers, timeout=30)
            n = 0
            while not stop.is_set():
                n += 1
                answers.append(own.get(f"/api/v1/projects/{project['id']}"))
                answers.append(own.get("/api/v1/work/inflight"))
                body = {"project_id": project["id"], "branch_name": f"{id(own)}-{n}", "owner_id": "ada"}
                answers.append(own.post("/api/v1/work", json=body))
            own.close()

        async def load() -> None:
            async with deploy.locked(fresh_database.url) as connection:
                await connection.execute("set role imi_owner")
                for _ in range(5):
                    await deploy.load(connection, lanes().manifest())

        with ThreadPoolExecutor(4) as threads:
            asking = [threads.submit(ask) for _ in range(4)]
            try:
                wait_for(load())
            finally:
                stop.set()
            for each in asking:
                each.result(30)
        assert len(answers) > 50
        assert {answer.status_code for answer in answers} <= {200, 201}, [
            each.text for each in answers if each.is_error
        ][:3]


class Own:
    """A server of PostgreSQL that a test may stop."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.url = embedded.url(cluster)

    def stop(self) -> None:
        postmaster.stop(self.cluster)

    def start(self) -> None:
        postmaster.start(self.cluster)


@pytest.fixture(scope="module")
def own() -> Iterator[Own]:
    folder = Path(tempfile.mkdtemp(prefix="imi-", dir="/tmp"))
    cluster, users = embedded.join(folder)
    try:
        found = Own(cluster)
        wait_for(deploy.migrate(found.url))
        yield found
    finally:
        embedded.leave(cluster, users)
        shutil.rmtree(folder)


def test_a_database_that_stops_is_503_and_comes_back(own: Own) -> None:
    with live(own.url) as client:
        project = client.post("/api/v1/projects", json={"remote_origin": "/tmp/one"}).json()
        asked: list[Callable[[], httpx.Response]] = [
            lambda: client.get(f"/api/v1/projects/{project['id']}"),
            lambda: client.get("/api/v1/projects"),
            lambda: client.post("/api/v1/projects", json={"remote_origin": "/tmp/one"}),
            lambda: client.post(
                "/api/v1/projects", json={"remote_origin": "/tmp/one"}, headers={"Idempotency-Key": "k"}
            ),
            lambda: client.get("/api/v1/projects", headers={"Authorization": "Bearer imi_" + "0" * 64}),
        ]
        own.stop()
        try:
            for ask in asked * 3:
                answer = ask()
                assert code(answer) == (503, "UNAVAILABLE")
                assert answer.headers["Retry-After"] == "1"
            answer = client.get("/health")
            assert (answer.status_code, answer.json()) == (
                503,
                HEALTHY | {"status": "unhealthy", "database": "disconnected"},
            )
            assert "Retry-After" in answer.headers
            metrics = client.get("/metrics")
            assert metrics.is_success and "imi_database_up 0.0" in metrics.text
            assert client.get("/openapi.json").is_success
        finally:
            own.start()
        until(lambda: client.get("/health").json() == HEALTHY)
        assert [ask().status_code for ask in asked] == [200, 200, 200, 200, 401]


def test_a_database_that_stops_in_the_middle_of_a_request(own: Own) -> None:
    with held(own.url), live(own.url) as client:  # the last to connect is the first to be stopped
        asking = Asking(client, own.url)
        own.stop()
        answer = asking.answer()
        own.start()
        assert code(answer) == (503, "UNAVAILABLE")
        until(lambda: client.get("/api/v1/projects").is_success)


def test_a_database_that_does_not_answer_is_said_to_be_away_in_time(own: Own) -> None:
    """Stopped by SIGSTOP, as a machine that hangs: connected, and silent."""
    with live(own.url) as client:
        assert client.get("/health").json() == HEALTHY
        first = int(own.cluster.files.joinpath("postmaster.pid").read_text().split()[0])
        others = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in (first, *map(int, others)):
            os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(3):
                assert client.get("/health", timeout=2).status_code == 503
            assert client.get("/metrics", timeout=2).is_success
        finally:
            for pid in (first, *map(int, others)):
                os.kill(pid, signal.SIGCONT)
        until(lambda: client.get("/health").json() == HEALTHY)


def test_a_request_under_way_may_end(fresh_database: Database) -> None:
    with contextlib.ExitStack() as server, contextlib.ExitStack() as lock:
        client = server.enter_context(live(fresh_database.url))
        lock.enter_context(held(fresh_database.url))
        idle = httpx.Client(base_url=client.base_url)
        assert idle.get("/health").is_success
        asking = Asking(client, fresh_database.url)
        stopping = threading.Thread(target=server.close)
        stopping.start()
        until(lambda: refused(client.base_url))
        with pytest.raises(httpx.TransportError):
            idle.get("/health")
        idle.close()
        assert stopping.is_alive() and not asking.done()
        lock.close()
        answer = asking.answer()
        assert (answer.status_code, answer.json()) == (200, {"slow": True})
        stopping.join(20)
        assert not stopping.is_alive()


def test_but_not_for_ever(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "GRACE", 0.2)
    with held(fresh_database.url):
        with live(fresh_database.url) as client:
            asking = Asking(client, fresh_database.url)
        with pytest.raises(httpx.RemoteProtocolError):  # the connection was closed under it
            asking.answer()


class Asking:
    """A request that waits for a lock, sent by a thread; it is waiting when this has been made."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        wait_for(run(url, SLOW))
        self._thread = ThreadPoolExecutor(1)
        self._answer = self._thread.submit(client.get, "/api/v1/agents")
        waiting = "select count(*) from pg_stat_activity where wait_event = 'advisory' and datname = current_database()"
        until(lambda: wait_for(run(url, waiting)) == 1)

    def done(self) -> bool:
        return self._answer.done()

    def answer(self) -> httpx.Response:
        try:
            return self._answer.result(20)
        finally:
            self._thread.shutdown()


async def run(url: str, statement: str) -> Any:
    """Run a statement, or answer a query's value, as a superuser."""
    connection = await asyncpg.connect(url)
    try:
        if statement.startswith("select"):
            return await connection.fetchval(statement)
        return await connection.execute(statement)
    finally:
        await connection.close()


def held(url: str) -> contextlib.AbstractContextManager[None]:
    """A session that holds the lock that SLOW waits for."""
    return locked(url, "select pg_advisory_lock(1)")


@contextlib.contextmanager
def locked(url: str, statement: str) -> Iterator[None]:
    """A session that holds what a statement locks."""
    taken, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("begin")
        await connection.execute(statement)
        taken.set()
        await asyncio.to_thread(release.wait)
        connection.terminate()

    with ThreadPoolExecutor(1) as thread:
        holding = thread.submit(asyncio.run, hold())
        assert taken.wait(20)
        try:
            yield
        finally:
            release.set()
            holding.result(20)


def refused(url: httpx.URL) -> bool:
    """Whether nobody takes new connections there."""
    try:
        socket.create_connection((url.host, url.port or 80), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was still in the queue of a door that was being closed
        pass
    return False
