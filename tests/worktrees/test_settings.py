"""config.toml: the guide's file, defaults, where each value came from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from imi.config import ConfigError
from imi.worktrees import settings

GUIDE = """
[sync_settings]
enabled = false
user_sync_path = "sync/user"
[monitoring_settings]
refresh_interval_ms = 500
symlink_files = [".env"]
exclude_patterns = ["target/"]
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "iMi").mkdir()
    return tmp_path / "iMi/config.toml"


def test_without_a_file_all_is_default(file: Path) -> None:
    assert settings.load() == settings.Config()
    assert settings.load().sync_settings.user_sync_path == "sync/global"
    assert set(settings.sources().values()) == {"default"}


def test_without_xdg_it_is_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.path() == tmp_path / ".config/iMi/config.toml"


def test_the_guides_file_with_its_lists_inside_a_table(file: Path) -> None:
    file.write_text(GUIDE)
    found = settings.load()
    assert (found.sync_settings.enabled, found.sync_settings.user_sync_path) == (False, "sync/user")
    assert found.sync_settings.local_sync_path == "sync/repo"
    assert (found.symlink_files, found.exclude_patterns) == ((".env",), ("target/",))
    chosen = {name for name, source in settings.sources().items() if source == "config.toml"}
    assert chosen == {
        "sync_settings.enabled", "sync_settings.user_sync_path", "monitoring_settings.refresh_interval_ms",
        "symlink_files", "exclude_patterns",
    }  # fmt: skip


def test_the_lists_at_the_top(file: Path) -> None:
    file.write_text('symlink_files = []\nexclude_patterns = ["a"]\n')
    assert (settings.load().symlink_files, settings.load().exclude_patterns) == ((), ("a",))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[git_settings]\nauto_fech = true", "git_settings.auto_fetch"),
        ("[git_setings]\n", "git_settings"),
        ("symlink_file = []", "symlink_files"),
        ("git_settings = 1", "must be a table"),
        ("[git_settings]\nauto_fetch = 1", "must be true or false"),
        ("[git_settings]\nremote_name = ''", "must not be empty"),
        ("[monitoring_settings]\nrefresh_interval_ms = true", "must be a whole number"),
        ("[monitoring_settings]\nrefresh_interval_ms = 0", "from 10 to 3600000"),
        ("symlink_files = [1]", "list of texts"),
        ("symlink_files = []\n[monitoring_settings]\nsymlink_files = []", "keep one"),
        ("[git_settings", "Cannot read"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        settings.load()
    assert said in str(refused.value) and str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match="UTF-8"):
        settings.load()
