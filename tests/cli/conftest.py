"""The command line, a live server that it finds, and real git."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commandline import Imi, Live
from tests.conftest import Database
from tests.repositories import git
from tests.serving import ADMIN, live

__all__ = ["git"]


@pytest.fixture
def imi(capsys: pytest.CaptureFixture[str]) -> Imi:
    return Imi(capsys)


@pytest.fixture(scope="module")
def live_server(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The API on the module's database, with its admin key in a data directory."""
    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "admin.key").write_text(f"{ADMIN}\n")
    with live(database.url) as client:
        yield Live(str(client.base_url), data_dir)


@pytest.fixture(name="live")
def found(live_server: Live, monkeypatch: pytest.MonkeyPatch) -> Live:
    """That server is the one the command line finds."""
    monkeypatch.setenv("IMI_API_URL", live_server.url)
    monkeypatch.setenv("IMI_DATA_DIR", str(live_server.data_dir))
    monkeypatch.setenv("IMI_AGENT", "ada")
    return live_server
