"""The worktree commands' settings: `~/.config/iMi/config.toml`, whose sections and keys are the fields here.

A section or key that is not there has its default. symlink_files and exclude_patterns stand at the top; in a
file whose tables come first TOML makes them keys of monitoring_settings, and they are read there too.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from imi.config import ConfigError

LISTS = ("symlink_files", "exclude_patterns")


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Which files are shared; both paths are below the project's root."""

    enabled: bool = True
    user_sync_path: str = "sync/global"
    local_sync_path: str = "sync/repo"


@dataclass(frozen=True, slots=True)
class GitSettings:
    """The trunk where nothing else says it, the remote, and what is fetched before a create or reconcile."""

    default_branch: str = "main"
    remote_name: str = "origin"
    auto_fetch: bool = True
    prune_on_fetch: bool = True


@dataclass(frozen=True, slots=True)
class MonitoringSettings:
    """What is watched; refresh_interval_ms is how often the live view is drawn."""

    enabled: bool = True
    refresh_interval_ms: int = 1000
    watch_file_changes: bool = True
    track_agent_activity: bool = True


@dataclass(frozen=True, slots=True)
class Config:
    """The file's sections, the files to link into every worktree, and the folders that are not watched."""

    sync_settings: SyncSettings = field(default_factory=SyncSettings)
    git_settings: GitSettings = field(default_factory=GitSettings)
    monitoring_settings: MonitoringSettings = field(default_factory=MonitoringSettings)
    symlink_files: tuple[str, ...] = (".env", ".vscode/settings.json", ".gitignore.local", ".mise.toml")
    exclude_patterns: tuple[str, ...] = ("node_modules/", ".git/", "target/", ".venv/")


DEFAULT = Config()


def path() -> Path:
    """Where the file is, or would be."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".config"
    return base / "iMi" / "config.toml"


def load() -> Config:
    """The settings. Raises ConfigError, one sentence that names the file, the key and the nearest one."""
    chosen: dict[str, dict[str, Any]] = {each.name: {} for each in fields(Config)}
    for section, key, value in _given():
        chosen[section][key] = value
    made: dict[str, Any] = {
        section: values[""] if "" in values else type(getattr(DEFAULT, section))(**values)
        for section, values in chosen.items()
        if values
    }
    return Config(**made)


def sources() -> dict[str, str]:
    """Where each value comes from, `section.key` to "config.toml" or "default". Raises ConfigError."""
    given = {_dotted(section, key) for section, key, _ in _given()}
    return {name: "config.toml" if name in given else "default" for name, _ in values(DEFAULT)}


def values(config: Config) -> Iterator[tuple[str, Any]]:
    """Every setting as (`section.key`, value)."""
    for section in fields(Config):
        value = getattr(config, section.name)
        if section.name in LISTS:
            yield section.name, value
        else:
            for key in fields(value):
                yield _dotted(section.name, key.name), getattr(value, key.name)


def _dotted(section: str, key: str) -> str:
    return f"{section}.{key}" if key else section


def _given() -> Iterator[tuple[str, str, Any]]:
    """What the file says, checked: (section, key, value), the key of a list empty."""
    file = path()
    try:
        with file.open("rb") as opened:
            import tomllib  # not needed without the file

            document = tomllib.load(opened)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"Cannot read {file}: it is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"Cannot read {file}: {error or 'it is nested too deeply'}") from None
    for section, content in document.items():
        if section in LISTS:
            yield section, "", _checked(file, section, content, ())
        elif section not in tables():
            raise ConfigError(_unknown(file, section, ""))
        elif not isinstance(content, dict):
            raise ConfigError(f"{file}: {section} must be a table, [{section}]")
        else:
            yield from _section(file, section, content, set(document))


def tables() -> list[str]:
    """The names of the tables."""
    return [each.name for each in fields(Config) if each.name not in LISTS]


def _section(
    file: Path, section: str, content: dict[str, Any], top: set[str]
) -> Iterator[tuple[str, str, Any]]:
    defaults = getattr(DEFAULT, section)
    known = {each.name for each in fields(defaults)}
    for key, value in content.items():
        if section == "monitoring_settings" and key in LISTS:
            if key in top:
                raise ConfigError(f"{file}: {key} stands at the top and in [{section}]: keep one")
            yield key, "", _checked(file, key, value, ())
        elif key in known:
            yield section, key, _checked(file, f"{section}.{key}", value, getattr(defaults, key))
        else:
            raise ConfigError(_unknown(file, key, f"{section}."))


def _checked(file: Path, name: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ConfigError(f'{file}: {name} must be a list of texts, such as [".env"]')
        return tuple(value)
    if type(value) is not type(default):
        kind = {bool: "true or false", int: "a whole number", str: "a text in quotes"}[type(default)]
        raise ConfigError(f"{file}: {name} must be {kind}")
    if isinstance(value, int) and not isinstance(value, bool) and not 10 <= value <= 3_600_000:
        raise ConfigError(f"{file}: {name} must be from 10 to 3600000")
    if name.endswith("_sync_path") and (value.startswith(("/", "~")) or ".." in value.split("/")):
        raise ConfigError(f"{file}: {name} must be a folder below the project's root, such as sync/repo")
    if value == "":
        raise ConfigError(f"{file}: {name} must not be empty")
    return value


def _unknown(file: Path, key: str, within: str) -> str:
    names = [name for name, _ in values(DEFAULT)] + ([] if within else tables())
    near = difflib.get_close_matches(within + key, names, n=1, cutoff=0.0)
    return f"{file}: {within}{key} is no setting of iMi; the nearest is {near[0]}"
