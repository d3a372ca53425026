"""Settings: where they come from, what is refused, and what is never shown."""

from __future__ import annotations

import dataclasses
import logging
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from imi import config
from imi.config import ConfigError, Settings

SECRETS = ("database_url", "rabbitmq_url", "api_key", "letta_api_key")


@pytest.fixture
def setting(monkeypatch):
    """Sets IMI_ names for this test."""

    def put(**names: str) -> None:
        for name, value in names.items():
            monkeypatch.setenv(f"IMI_{name}", value)

    return put


def test_nothing_set_is_the_design_s_defaults(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")
    settings = config.load()
    assert (settings.host, settings.port, settings.log_level, settings.auth) == (
        "127.0.0.1",
        8400,
        "INFO",
        True,
    )
    assert (settings.database_pool_size, settings.database_max_overflow) == (10, 5)
    assert settings.data_dir == Path("/home/ada/.local/share/imi")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert config.load().data_dir == Path("/var/lib/imi")


def test_every_setting_has_its_type(setting, tmp_path):
    setting(
        PORT="0", DEBUG="yes", LOG_LEVEL="debug", LOG_FILE="~/log", DATA_DIR=str(tmp_path), DATABASE_POOL_SIZE="3",
        DATABASE_URL="postgresql://a@b/c", RABBITMQ_URL="amqps://r", AUTH="off", CORS_ORIGINS="http://a, http://b,",
        API_URL="https://imi", HOST="::1", AGENT=" ada ", LETTA_BASE_URL="",
    )  # fmt: skip
    settings = config.load(strict=True)
    assert settings == Settings(
        port=0, debug=True, log_level="DEBUG", log_file=Path("~/log").expanduser(), data_dir=tmp_path,
        database_pool_size=3, database_url="postgresql://a@b/c", rabbitmq_url="amqps://r", auth=False,
        cors_origins=("http://a", "http://b"), api_url="https://imi", host="::1", agent="ada",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "eighty", "IMI_PORT must be a whole number from 0 to 65535"),
        ("PORT", "65536", "IMI_PORT must be a whole number from 0 to 65535"),
        ("PORT", "٨", "IMI_PORT must be a whole number"),
        ("DATABASE_POOL_SIZE", "0", "IMI_DATABASE_POOL_SIZE must be a whole number from 1"),
        ("AUTH", "maybe", "IMI_AUTH must be true or false"),
        ("LOG_LEVEL", "loud", "IMI_LOG_LEVEL must be one of DEBUG"),
        ("TEST_BACKEND", "sqlite", "IMI_TEST_BACKEND must be one of embedded, containers"),
        (
            "DATABASE_URL",
            "mysql://me:s3cret@db",
            "IMI_DATABASE_URL must be a URL that starts with postgresql:// or",
        ),
        ("DATABASE_URL", "postgresql://[s3cret", "IMI_DATABASE_URL must be a URL"),
        ("RABBITMQ_URL", "s3cret", "IMI_RABBITMQ_URL must be a URL that starts with amqp://"),
        ("RABBITMQ_URL", "amqp://me:s3cret@broker:many", "IMI_RABBITMQ_URL must be a URL"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence_without_secrets(setting, name, value, sentence):
    setting(**{name: value})
    with pytest.raises(ConfigError) as raised:
        config.load()
    assert str(raised.value).startswith(sentence)
    assert "s3cret" not in str(raised.value)


def test_secrets_are_not_shown(setting):
    names = {name.upper(): f"amqp://x:s3cret-{name}@y" for name in SECRETS}
    setting(**(names | {"DATABASE_URL": "postgres://x:s3cret@y"}))
    assert "s3cret" not in repr(config.load())
    assert {each.name for each in dataclasses.fields(Settings) if not each.repr} == set(SECRETS)


def test_an_unknown_name_stops_a_server_and_warns_elsewhere(setting, caplog):
    setting(DATABSE_URL="x", PROT="1")
    with pytest.raises(
        ConfigError, match=r"IMI_DATABSE_URL is no setting of iMi; the nearest is IMI_DATABASE_URL"
    ):
        config.load(strict=True)
    with caplog.at_level(logging.WARNING):
        config.load()
    assert [record.getMessage() for record in caplog.records] == [
        "IMI_DATABSE_URL is no setting of iMi; the nearest is IMI_DATABASE_URL; "
        "IMI_PROT is no setting of iMi; the nearest is IMI_PORT"
    ]


def test_the_old_database_s_name_is_told_where_to_go(setting):
    setting(DB_PATH="/old.db")
    with pytest.raises(ConfigError, match="imi migrate-v2"):
        config.load(strict=True)


def test_a_dotenv_is_read_where_it_may_be(setting, tmp_path, monkeypatch):
    folder, cloned = tmp_path / "data", tmp_path / "cloned"
    folder.mkdir()
    cloned.mkdir()
    (cloned / ".env").write_text("IMI_API_URL=https://evil\n")
    (folder / ".env").write_text("IMI_PORT=1\nIMI_HOST=::1\nIMI_DATA_DIR=/elsewhere\n")
    (tmp_path / "named").write_text(f"IMI_PORT=2\nIMI_DATA_DIR={cloned}\n")
    monkeypatch.chdir(cloned)
    setting(DATA_DIR=str(folder), HOST="127.0.0.2")
    assert config.load().port == 8400
    for read in (config.load(strict=True), config.load(dotenv=True)):
        assert (read.port, read.host, read.data_dir) == (1, "127.0.0.2", folder)
        assert read.api_url is None
    assert config.load(strict=True, dotenv=False).port == 8400
    assert config.load(tmp_path / "named").port == 2
    monkeypatch.delenv("IMI_DATA_DIR")
    assert config.load(tmp_path / "named").data_dir == cloned


def test_what_a_dotenv_may_look_like(tmp_path):
    file = tmp_path / ".env"
    file.write_text(
        "# a comment\n\nexport IMI_AGENT = 'a b # c'\nIMI_API_KEY=\"k=1\" # why\nIMI_HOST=h # why\nPATH=/no\nIMI_WORK_ITEM=#none\n"
    )
    settings = config.load(file)
    assert (settings.agent, settings.api_key, settings.host, settings.work_item) == (
        "a b # c",
        "k=1",
        "h",
        None,
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"IMI_HOST\n", "line 1 is not NAME=value"),
        (b"A=b\nIMI_HOST='x\n", "line 2: the quote is not closed"),
        (b"IMI_HOST='x'y\n", "line 1: the quote is not closed, or something follows it"),
        (b"IMI_HOST=\xff\n", "it is not UTF-8 text"),
    ],
)
def test_a_dotenv_that_cannot_be_read_says_where(tmp_path, content, sentence):
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigError, match=f"Cannot read {tmp_path}/.env: {sentence}"):
        config.load(tmp_path / ".env")


def test_an_unreadable_dotenv_is_one_sentence(setting, tmp_path):
    with pytest.raises(ConfigError, match=r"Cannot read .*/none: No such file or directory"):
        config.load(tmp_path / "none")
    (tmp_path / "file").write_text("")
    setting(DATA_DIR=str(tmp_path / "file"))
    assert config.load(dotenv=True).port == 8400
    (tmp_path / "data/.env").mkdir(parents=True)
    setting(DATA_DIR=str(tmp_path / "data"))
    with pytest.raises(ConfigError, match=r"Cannot read .*/data/\.env: Is a directory"):
        config.load(strict=True)


@contextmanager
def no_root():
    """As a user whom permissions stop: root reads everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize(("folder", "what"), [(0o755, "read"), (0, "look for")])
def test_a_dotenv_without_permission_is_one_sentence(setting, data_dir, folder, what):
    (data_dir / ".env").write_text("IMI_PORT=1\n")
    (data_dir / ".env").chmod(0)
    data_dir.chmod(folder)
    setting(DATA_DIR=str(data_dir))
    with no_root(), pytest.raises(ConfigError, match=f"Cannot {what} .*/.env: Permission denied"):
        config.load(strict=True)
    data_dir.chmod(0o700)
