"""`imi worker`, a process of its own, and `imi registry-entry`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from imi.bloodbank import schemas
from tests.commandline import Imi
from tests.postgres import Database


@contextlib.contextmanager
def worker(
    url: str, home: Path, *before: str, sign: signal.Signals = signal.SIGTERM
) -> Iterator[subprocess.Popen[str]]:
    """A worker that has said that it is up; stopped in the end, which it must do by itself."""
    settings = {"IMI_DATABASE_URL": url, "IMI_DATA_DIR": str(home), "IMI_RABBITMQ_URL": ""}
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "imi", "worker", "--json"],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout
            said = json.loads(process.stdout.readline())
            assert said["data"]["bus"] == "embedded"
            yield process
        finally:
            process.send_signal(sign)
            assert process.wait(30) == 0


async def test_it_sends_the_log_on_and_runs_the_subscriptions(
    fresh_database: Database, tmp_path: Path
) -> None:
    owner = await fresh_database.connect("superuser")
    try:
        await owner.execute("select ops.subscribe('ours', '{imi.#}')")
        with worker(fresh_database.url, tmp_path), worker(fresh_database.url, tmp_path):
            command = {"event_type": "imi.cmd.register_project", "payload": {"remote_origin": "/srv/one"}}
            await owner.execute(
                "select logic.event_ingest(array[$1::jsonb], 'local', '{}')", json.dumps(command)
            )
            async with asyncio.timeout(30):
                while await owner.fetchval("select count(*) from pgmq.q_ours") < 3:
                    await asyncio.sleep(0.05)
            types = "select message ->> 'event_type' from pgmq.q_ours order by msg_id"
            assert [row[0] for row in await owner.fetch(types)] == [
                "imi.cmd.register_project",
                "imi.project.registered",
                "imi.cmd.done",
            ]
            assert await owner.fetchval("select leader is not null from ops.lag where follower = 'relay'")
            assert await owner.fetchval("select logic.workers()") >= 3
        async with asyncio.timeout(30):
            while await owner.fetchval("select logic.workers()"):
                await asyncio.sleep(0.05)
    finally:
        await owner.close()


def test_a_hang_up_stops_it_unless_nohup_has_it_ignored(database: Database, tmp_path: Path) -> None:
    with worker(database.url, tmp_path, sign=signal.SIGHUP):
        pass
    with worker(database.url, tmp_path, "nohup") as process:
        status = Path(f"/proc/{process.pid}/status").read_text()
        (ignored,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")]
        assert int(ignored, 16) & 1 << signal.SIGHUP - 1


def test_it_says_at_once_that_the_database_is_away_or_not_migrated(
    empty_database: Database, tmp_path: Path
) -> None:
    for url, message in (
        ("postgresql://nobody@127.0.0.1:1/none", "Cannot connect"),
        (empty_database.url, "imi db migrate"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "imi", "worker"],
            env=os.environ | {"IMI_DATABASE_URL": url, "IMI_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["worker", "serve"])
def test_where_no_imi_is_it_makes_nothing(tmp_path: Path, command: str) -> None:
    nowhere = tmp_path / "forgotten"
    settings = {"IMI_DATABASE_URL": "", "IMI_DATA_DIR": str(nowhere), "IMI_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "imi", command],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.startswith(f"error: There is no iMi in {nowhere}: "), done
    assert not nowhere.exists()


def test_the_registry_entry_names_the_queue_and_every_event_that_is_published(imi: Imi) -> None:
    entry = imi.data("registry-entry", "--api-url", "http://imi.example:8400/")["imi"]
    assert (entry["queue_name"], entry["routing_keys"]) == ("event_store_manager_queue", ["#"])
    assert entry["endpoints"]["health"] == "http://imi.example:8400/health"
    known = {each["event_type"] for each in schemas.types()}
    assert {*entry["produces"], *entry["consumes"]} == known
    assert {"imi.cmd.start_work", "git.push"} <= {*entry["consumes"]} and "imi.cmd.done" in entry["produces"]
    shown = yaml.safe_load(imi("registry-entry", "--api-url", "http://imi.example:8400").out)
    assert shown == {"services": {"imi": entry}}
