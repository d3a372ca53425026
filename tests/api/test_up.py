"""`imi up` and `imi serve` as processes: what they print, make, refuse and leave behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import Database
from tests.live import Live, free_port, running


@pytest.fixture(scope="module")
def up() -> Iterator[Live]:
    """An `imi up` on a new data directory."""
    with running() as live:
        yield live


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """A process's exit code, and all it said."""
    said, _ = process.communicate(timeout=60)
    return process.returncode, said.decode()


def refusal(process: subprocess.Popen[bytes]) -> str:
    """The one sentence (and its hint) of a process that refuses to run."""
    returned, said = ended(process)
    assert returned not in (0, -9) and "Traceback" not in said, said
    lines = [line for line in said.splitlines() if line.strip()]
    assert lines[0].startswith("error: ") and len(lines) <= 2, said
    return said


def asked(live: Live, path: str, key: str) -> int:
    return httpx.get(f"{live.url}{path}", headers={"X-API-Key": key}).status_code


def test_it_says_where_it_is_and_where_the_key_lies(up: Live) -> None:
    said = up.data_dir.with_suffix(".out").read_text()
    for line in (
        "iMi is up",
        f"http://127.0.0.1:{up.port}\n",
        f"http://127.0.0.1:{up.port}/docs",
        str(up.data_dir / "admin.key"),
    ):
        assert line in said
    assert up.key not in said


def test_the_key_is_the_users_alone_and_opens_everything(up: Live) -> None:
    assert stat.S_IMODE((up.data_dir / "admin.key").stat().st_mode) == 0o600
    assert re.fullmatch(r"imi_[0-9a-f]{64}", up.key)
    assert asked(up, "/api/v1/api-keys", up.key) == 200


def test_a_backup_is_made(up: Live) -> None:
    until = time.monotonic() + 30
    while not (found := list((up.data_dir / "backups").glob("imi-*.dump"))):
        assert time.monotonic() < until
        time.sleep(0.05)
    assert len(found) == 1 and found[0].stat().st_size > 10_000


def test_one_data_directory_has_one_imi_up(up: Live) -> None:
    assert up.process
    said = refusal(Live(up.data_dir).spawn("up"))
    assert f"process {up.process.pid}" in said and "IMI_DATA_DIR" in said
    assert asked(up, "/api/v1/projects", up.key) == 200


def test_a_port_in_use_is_one_sentence_and_nothing_is_made(up: Live, data_dir: Path) -> None:
    other = Live(data_dir / "data", port=up.port)
    said = refusal(other.spawn("up"))
    assert f"port {up.port} is in use" in said and "--port" in said
    assert not list(other.data_dir.glob("*/PG_VERSION")) and not (other.data_dir / "admin.key").exists()


def test_serve_stands_beside_it(up: Live) -> None:
    port = free_port()
    beside = up.spawn("serve", "--port", str(port), "--json")
    try:
        assert beside.stdout
        while not (line := beside.stdout.readline()).startswith(b'{"success"'):
            assert line, "it ended"
        assert json.loads(line)["data"] == {
            "url": f"http://127.0.0.1:{port}",
            "docs": f"http://127.0.0.1:{port}/docs",
        }
        headers = {"X-API-Key": up.key}
        made = httpx.post(
            f"http://127.0.0.1:{port}/api/v1/projects", json={"remote_origin": "/tmp/beside"}, headers=headers
        )
        assert made.status_code == 201
        assert asked(up, f"/api/v1/projects/{made.json()['id']}", up.key) == 200
    finally:
        beside.send_signal(signal.SIGINT)
        assert ended(beside)[0] == 0
    assert asked(up, "/api/v1/projects", up.key) == 200  # the server of both is still there


def test_a_lesser_key_is_no_operators_key(up: Live) -> None:
    body = {"name": "small", "scope": "write"}
    key = httpx.post(f"{up.url}/api/v1/api-keys", json=body, headers={"X-API-Key": up.key}).json()["key"]
    said = refusal(Live(up.data_dir, IMI_API_KEY=key).spawn("serve"))
    assert "'small' of scope write" in said and key not in said


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"IMI_POTR": "1"}, "IMI_PORT"),
        ({"IMI_PORT": "eighty"}, "IMI_PORT must be a whole number"),
        ({"IMI_LOG_FILE": "/proc/nothing"}, "/proc/nothing"),
        ({"IMI_HOST": "no.such.host.invalid"}, "Cannot listen on no.such.host.invalid"),
        ({"IMI_HOST": "192.0.2.1"}, "Cannot listen on 192.0.2.1"),
        ({"IMI_AUTH": "off", "IMI_HOST": "0.0.0.0"}, "IMI_AUTH=off"),
        (
            {"IMI_DATABASE_URL": "postgresql://nobody:geheim@127.0.0.1:1/none"},
            "Cannot connect to the database",
        ),
        ({"IMI_DATA_DIR": "/proc/imi"}, "/proc/imi"),
    ],
)
@pytest.mark.parametrize("command", ["up", "serve"])
def test_bad_settings_are_one_sentence(
    up: Live, command: str, settings: dict[str, str], sentence: str
) -> None:
    data_dir = up.data_dir if command == "serve" else up.data_dir.parent / "other"
    said = refusal(Live(data_dir, **settings).spawn(command))
    assert sentence in said and "geheim" not in said


def test_a_database_that_nobody_migrated_is_one_sentence(data_dir: Path, empty_database: Database) -> None:
    said = refusal(Live(data_dir, IMI_DATABASE_URL=empty_database.url).spawn("serve"))
    assert "imi db migrate" in said


def test_a_database_of_another_release_is_told_function_by_function(
    data_dir: Path, fresh_database: Database
) -> None:
    fresh_database.server.run("drop function api.stats_get", database=fresh_database.name)
    returned, said = ended(Live(data_dir, IMI_DATABASE_URL=fresh_database.url).spawn("serve"))
    assert returned == 1 and "Traceback" not in said
    assert "api.stats_get does not exist" in said and "imi db migrate" in said


def test_it_stops_cleanly_and_keeps_its_key(data_dir: Path) -> None:
    data_dir.chmod(0o755)
    live = Live(data_dir / "data")
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        live.start()
        key, postmaster = live.key, live.postmaster()
        assert asked(live, "/api/v1/projects", key) == 200
        if sign == signal.SIGHUP and live.process:  # a closing terminal says it twice
            live.process.send_signal(sign)
        assert live.stop(sign) == 0
        assert not (live.data_dir / "server.url").exists()
        assert not Path(f"/proc/{postmaster}").exists()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", live.port), timeout=5)
        assert live.key == key
    for spoil in ("", "imi_" + "0" * 64):
        (live.data_dir / "admin.key").write_text(spoil)
        live.start()
        assert live.key not in (spoil, key)
        assert asked(live, "/api/v1/api-keys", live.key) == 200
        assert live.stop() == 0


def test_a_key_that_cannot_be_kept_is_one_sentence(data_dir: Path, fresh_database: Database) -> None:
    (data_dir / "admin.key").mkdir()
    said = refusal(Live(data_dir, IMI_DATABASE_URL=fresh_database.url).spawn("up"))
    assert f"Cannot keep the admin key in {data_dir / 'admin.key'}" in said


def test_it_stops_in_the_middle_of_its_start(data_dir: Path) -> None:
    data_dir.chmod(0o755)
    live = Live(data_dir / "data")
    process = live.spawn("up")
    until = time.monotonic() + 30
    while not list(live.data_dir.rglob("PG_VERSION")):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    returned, said = ended(process)
    assert returned == 0 and "Traceback" not in said, said
    for file in live.data_dir.rglob("postmaster.pid"):
        assert not Path(f"/proc/{file.read_text().split()[0]}").exists()


def test_help_names_what_it_does() -> None:
    environment = os.environ | {"COLUMNS": "200"}
    for command in ("up", "serve"):
        done = subprocess.run(
            ["imi", command, "--help"],
            capture_output=True,
            env=environment | {"PATH": venv_path()},
            timeout=60,
            check=True,
        )
        text = done.stdout.decode()
        assert "--port" in text and "--host" in text and "Example" in text


def venv_path() -> str:
    import sys

    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"
