"""How commands find the server of their data directory, and keep finding it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.commandline import Imi
from tests.live import Live, running


@pytest.fixture(scope="module")
def up() -> Iterator[Live]:
    """An `imi up` on a port that only its data directory tells."""
    with running() as live:
        yield live


@pytest.fixture(autouse=True)
def same_data_directory(up: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMI_DATA_DIR", str(up.data_dir))


def test_the_running_server_is_found(imi: Imi, up: Live) -> None:
    assert imi.data("projects", "list")["total"] == 0
    assert (up.data_dir / "server.url").read_text() == f"{up.url}\n"


def test_after_a_reset_and_a_restore_too(imi: Imi, up: Live, tmp_path: Path) -> None:
    imi("projects", "register", "/srv/kept")
    imi("db", "backup", tmp_path / "it.dump")
    old = up.key
    imi("db", "reset", "--yes")
    assert up.key != old
    assert (up.data_dir / "admin.key").stat().st_mode & 0o777 == 0o600
    assert imi.data("projects", "list")["total"] == 0
    imi("db", "restore", tmp_path / "it.dump", "--yes")
    assert [each["name"] for each in imi.data("projects", "list")["items"]] == ["kept"]


def test_a_flag_and_the_environment_come_first(imi: Imi, up: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ":1 " in str(imi.error(5, "stats", "--api-url", "http://127.0.0.1:1")["message"])
    monkeypatch.setenv("IMI_API_URL", "http://127.0.0.1:2")
    assert ":2 " in str(imi.error(5, "stats")["message"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_server_for_everybody_is_found_on_this_machine(
    imi: Imi, data_dir: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    data_dir.chmod(0o755)
    live = Live(data_dir / "data", IMI_HOST=host)
    monkeypatch.setenv("IMI_DATA_DIR", str(live.data_dir))
    if host == "::":
        live.url = f"http://[::1]:{live.port}"
    try:
        live.start()
        assert imi.data("projects", "list")["total"] == 0
    finally:
        live.stop()
    assert not (live.data_dir / "server.url").exists(), "it is gone with the server"


def test_without_one_it_is_the_default(imi: Imi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[httpx.Request] = []

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers={"X-Request-ID": "1"}, json={})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    monkeypatch.setenv("IMI_DATA_DIR", str(tmp_path))
    imi.data("stats")
    assert str(asked[0].url) == "http://localhost:8400/api/v1/stats"
