"""`imi config show`: where each value came from, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commandline import Imi


def test_each_value_says_where_it_came_from(
    imi: Imi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("IMI_API_KEY", "very-secret")
    monkeypatch.setenv("IMI_AGENT", "ada")
    (tmp_path / "iMi").mkdir()
    (tmp_path / "iMi/config.toml").write_text("[git_settings]\nauto_fetch = false\n")
    rows = {row["setting"]: (row["value"], row["source"]) for row in imi.data("config", "show")["settings"]}
    assert rows["git_settings.auto_fetch"] == (False, "config.toml")
    assert rows["git_settings.remote_name"] == ("origin", "default")
    assert rows["IMI_AGENT"] == ("ada", "environment")
    assert rows["IMI_PORT"] == (8400, "default")
    assert rows["IMI_API_KEY"] == ("set, not shown", "environment")
    shown = imi("config", "show")
    assert "auto_fetch" in shown.out and "very-secret" not in shown.out + shown.err


def test_no_urls_password_is_shown(imi: Imi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("IMI_API_URL", "https://ada:s3c@r3t@example.org:8400/at@home")
    monkeypatch.setenv("IMI_LETTA_BASE_URL", "https://s3cr3t@example.org")
    monkeypatch.setenv("IMI_CORS_ORIGINS", "https://a.example.org,https://ada:s3cr3t@b.example.org")
    monkeypatch.setenv("IMI_DATABASE_URL", "postgresql://ada:s3cr3t@example.org/imi")
    (tmp_path / "iMi").mkdir()
    (tmp_path / "iMi/config.toml").write_text(
        "symlink_files = ['ftp://ada:s3cr3t@example.org', 'a@b']\n"
        "[git_settings]\nremote_name = 'https://ada:s3cr3t@example.org/shop.git'\n"
    )
    document = imi.data("config", "show")
    rows = {row["setting"]: row["value"] for row in document["settings"]}
    assert rows["IMI_API_URL"] == "https://***@example.org:8400/at@home"
    assert rows["IMI_LETTA_BASE_URL"] == "https://***@example.org"
    assert rows["IMI_CORS_ORIGINS"] == ["https://a.example.org", "https://***@b.example.org"]
    assert rows["symlink_files"] == ["ftp://***@example.org", "a@b"]
    assert rows["git_settings.remote_name"] == "https://***@example.org/shop.git"
    assert "r3t" not in str(document) + imi("config", "show").out


def test_a_setting_that_cannot_be_used(imi: Imi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "iMi").mkdir()
    (tmp_path / "iMi/config.toml").write_text("[git_settings]\nauto_fech = false\n")
    assert "auto_fetch" in str(imi.error(1, "config", "show")["message"])
