"""Which server, which key, who acts: what the command line and publishers find alike."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from imi.config import ConfigError, Settings
from imi.rules import is_loopback, masked

DEFAULT_URL = "http://localhost:8400"


class Connection(NamedTuple):
    """A server, and who asks it; `here` means this machine."""

    url: str
    actor: str
    key: str | None
    here: bool

    @property
    def headers(self) -> dict[str, str]:
        """Who asks, and the key."""
        return _headers(self.actor, self.key)

    @property
    def shown(self) -> str:
        """Its URL as people may see it."""
        return masked(self.url)

    @property
    def is_plain(self) -> bool:
        """Whether it is reached over plain HTTP on this machine, and its URL holds nothing but the place."""
        parts = urlsplit(self.url)
        return (
            self.here
            and parts.scheme == "http"
            and not (parts.query or parts.fragment or "@" in parts.netloc)
        )

    @property
    def client(self) -> dict[str, Any]:
        """What makes an httpx.Client or AsyncClient of it. Raises ConfigError."""
        import httpx

        try:
            httpx.URL(self.url)  # is stricter with hosts than `find`
        except httpx.InvalidURL:
            raise ConfigError(_no_url(self.url)) from None
        # A key for this machine takes no way round through a proxy. Plain http has no certificate to check,
        # and loading them costs 25 ms.
        return {
            "base_url": self.url,
            "headers": self.headers,
            "trust_env": not self.here,
            "verify": self.url.startswith("https:"),
            "timeout": httpx.Timeout(40, connect=5),
        }


def find(
    settings: Settings, agent: str | None = None, api_url: str | None = None, api_key: str | None = None
) -> Connection:
    """The server as the arguments, then the settings, then what `imi up` left say. Raises ConfigError."""
    url = (api_url or settings.api_url or _left(settings.data_dir, "server.url") or DEFAULT_URL).rstrip("/")
    try:
        url.encode()  # bytes that are not UTF-8 came as lone surrogates
        parts = urlsplit(url)
        here = is_loopback(parts.hostname)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(_no_url(url))
    actor = agent or settings.agent or f"{_user()}@{socket.gethostname()}"
    key = api_key or settings.api_key or (_left(settings.data_dir, "admin.key") if here else None)
    if not all(value.isascii() and value.isprintable() for value in _headers(actor, key).values()):
        raise ConfigError("an agent's name and a key are printable ASCII")
    return Connection(url, actor, key, here)


def _no_url(url: str) -> str:
    return f"{masked(url)} is no URL of a server, such as {DEFAULT_URL}"


def _headers(actor: str, key: str | None) -> dict[str, str]:
    return {"X-Agent-Id": actor} | ({"Authorization": f"Bearer {key}"} if key else {})


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid-{os.getuid()}"


def _left(data_dir: Path, name: str) -> str | None:
    """What `imi up` left there for this user; None when there is none or it is someone else's to read."""
    try:
        return (data_dir / name).read_text(errors="replace").strip()
    except OSError:
        return None
