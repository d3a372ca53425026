"""Settings: the environment's IMI_ names and a `.env`, read once into a frozen object.

The environment wins over the file. A `.env` is read only where a command asks for it, and only the data
directory's own or the one named by --env-file: a repository someone cloned must not redirect a key.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PREFIX = "IMI_"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MOVED = {
    "IMI_DB_PATH": "IMI_DB_PATH belongs to iMi 2, which kept a SQLite file: unset it; "
    "`imi migrate-v2 DB` brings its data over",
}

log = logging.getLogger(__name__)


class ConfigError(Exception):
    """A setting that cannot be used, as one sentence for a person."""


def default_data_dir() -> Path:
    """Answer where data lives when nobody said: /var/lib/imi for root, else under the home folder."""
    return Path("/var/lib/imi") if os.geteuid() == 0 else Path.home() / ".local/share/imi"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, named as its IMI_ name in lower case; secrets stay out of the repr."""

    host: str = "127.0.0.1"
    port: int = 8400
    debug: bool = False
    log_level: str = "INFO"
    log_file: Path | None = None
    data_dir: Path = field(default_factory=default_data_dir)
    database_url: str | None = field(default=None, repr=False)
    database_pool_size: int = 10
    database_max_overflow: int = 5
    rabbitmq_url: str | None = field(default=None, repr=False)
    exchange_name: str = "bloodbank.events.v1"
    api_key: str | None = field(default=None, repr=False)
    auth: bool = True
    cors_origins: tuple[str, ...] = ()
    api_url: str | None = None
    repo_root: Path | None = None
    agent: str | None = None
    work_item: str | None = None
    shell: str | None = None
    test_backend: str = "embedded"
    letta_base_url: str | None = None
    letta_api_key: str | None = field(default=None, repr=False)
    letta_model: str | None = None
    letta_embedding: str | None = None


def _integer(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def _level(text: str) -> str:
    if text.upper() not in LEVELS:
        raise ValueError(f"must be one of {', '.join(LEVELS)}")
    return text.upper()


def _choice(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        try:
            parts = urlsplit(text)
            # PostgreSQL takes several hosts, or none
            placed = "postgresql" in schemes or bool(parts.hostname and parts.port != 0)
            good = parts.scheme in schemes and placed
        except ValueError:
            good = False
        if not good:  # the text itself may hold a password
            raise ValueError(f"must be a URL that starts with {' or '.join(s + '://' for s in schemes)}")
        return text

    return parse


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


PARSERS: dict[str, Callable[[str], Any]] = {
    "port": _integer(0, 65535),
    "debug": _boolean,
    "log_level": _level,
    "log_file": _path,
    "data_dir": _path,
    "database_url": _url("postgresql", "postgres"),
    "database_pool_size": _integer(1, 1000),
    "database_max_overflow": _integer(0, 1000),
    "rabbitmq_url": _url("amqp", "amqps"),
    "auth": _boolean,
    "cors_origins": lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
    "api_url": _url("http", "https"),
    "repo_root": _path,
    "test_backend": _choice("embedded", "containers"),
    "letta_base_url": _url("http", "https"),
}
NAMES = {PREFIX + each.name.upper(): each.name for each in fields(Settings)}


def load(env_file: Path | None = None, strict: bool = False, dotenv: bool | None = None) -> Settings:
    """Read the settings.

    `env_file` is the file named by --env-file, which must be there. `strict` is for up, serve, worker and
    letta: an unknown IMI_ name stops them; elsewhere it is one warning. `dotenv` says whether the data
    directory's own `.env` is read when no file is named; None means as `strict` (db reads it without being
    strict).
    Raises ConfigError; no secret is ever in its message.
    """
    values = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    if env_file is not None:
        values = read_env_file(env_file) | values
    elif strict if dotenv is None else dotenv:
        home = Path(values["IMI_DATA_DIR"]).expanduser() if values.get("IMI_DATA_DIR") else default_data_dir()
        own = home / ".env"
        try:
            own.stat()  # from Python 3.14 on, exists() calls absent what it may not look for
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise ConfigError(f"Cannot look for {own}: {error.strerror}") from None
        else:
            values = read_env_file(own) | {"IMI_DATA_DIR": str(home)} | values
    return parse(values, strict)


def parse(values: Mapping[str, str], strict: bool) -> Settings:
    """Turn IMI_ names and their texts into Settings; an empty text counts as not set."""
    complaints = [_unknown(name) for name in sorted(values) if name not in NAMES]
    if complaints and strict:
        raise ConfigError("; ".join(complaints))
    if complaints:
        log.warning("%s", "; ".join(complaints))
    chosen: dict[str, Any] = {}
    for name, attribute in NAMES.items():
        text = values.get(name, "").strip()
        if not text:
            continue
        try:
            chosen[attribute] = PARSERS.get(attribute, str)(text)
        except ValueError as error:
            raise ConfigError(f"{name} {error}") from None
    return Settings(**chosen)


def _unknown(name: str) -> str:
    if name in MOVED:
        return MOVED[name]
    near = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.0)
    return f"{name} is no setting of iMi; the nearest is {near[0]}"


def read_env_file(path: Path) -> dict[str, str]:
    """Read a `.env`'s IMI_ lines: NAME=value, optional `export`, quotes, # comments; pass over the rest."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"Cannot read {path}: it is not UTF-8 text") from None
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip().removeprefix("export ").lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ConfigError(f"Cannot read {path}: line {number} is not NAME=value")
        if name.strip().startswith(PREFIX):
            values[name.strip()] = _unquote(value.strip(), f"{path}: line {number}")
    return values


def _unquote(value: str, where: str) -> str:
    if value[:1] in ("'", '"'):
        inner, closing, rest = value[1:].partition(value[0])
        if not closing or (rest.strip() and not rest.strip().startswith("#")):
            raise ConfigError(f"Cannot read {where}: the quote is not closed, or something follows it")
        return inner
    return "" if value.startswith("#") else value.split(" #", 1)[0].rstrip()
