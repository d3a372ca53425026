"""Real git repositories for these tests, away from the settings of whoever runs them."""

from pathlib import Path

import pytest

from tests.repositories import git

__all__ = ["git"]


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State and settings of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("IMI_REPO_ROOT", raising=False)
