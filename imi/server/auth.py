"""Who may enter: keys and their scopes, the origins of browsers, and the host's name."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from imi.config import ConfigError, Settings
from imi.server.errors import ApiError

SCOPES = ("read", "write", "admin")
KEPT = 5.0  # seconds that a look at a key is believed
MOST_KEPT = 10_000
FAILURES, WINDOW = 20, 60.0
LOOPBACK = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\]|::1)(:[0-9]+)?", re.IGNORECASE)
EXPOSED = "X-Request-ID, X-Next-Cursor, X-Total-Count, Retry-After"
TAKEN = "Authorization, X-API-Key, Content-Type, Idempotency-Key, X-Agent-Id, X-Correlation-ID, X-Request-ID"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose key it is."""

    id: str
    name: str
    scope: str

    def require(self, scope: str) -> None:
        """403 unless the key's scope contains this one."""
        if SCOPES.index(self.scope) < SCOPES.index(scope):
            params = {"scope": self.scope, "needed": scope}
            raise ApiError(403, "FORBIDDEN", f"This needs a key of scope {scope}", params)


ANYBODY = Principal("none", "anybody", "admin")  # with IMI_AUTH=off
OPERATOR = Principal("IMI_API_KEY", "IMI_API_KEY", "admin")


def is_loopback(name: str | None) -> bool:
    """Whether a host's name or address, with or without a port, is this machine to itself."""
    return name is not None and LOOPBACK.fullmatch(name) is not None


class Keys:
    """Keys, each looked up at most every five seconds, and the addresses that try wrong ones."""

    def __init__(self, settings: Settings, look_up: Callable[[str], Awaitable[Any]]) -> None:
        self._auth = settings.auth
        self._look_up = look_up  # a key's SHA-256 -> its row (key_id, name, scope), or None
        self._own = _hash(settings.api_key) if settings.api_key else ""
        self._kept: dict[str, tuple[float, asyncio.Future[Principal | None]]] = {}
        self._failures: dict[str, list[float]] = {}

    async def refuse_lesser(self) -> None:
        """Raise ConfigError if IMI_API_KEY, which opens everything, is stored with a lower scope."""
        stored = await self._find(self._own) if self._own else None
        if stored and stored.scope != "admin":
            raise ConfigError(
                f"IMI_API_KEY is the stored key {stored.name!r} of scope {stored.scope}; here it would open "
                "everything: choose another"
            )

    async def principal(self, headers: Mapping[str, str], address: str) -> Principal:
        """Whose request this is; 401 without a good key, 429 after too many bad ones from this address."""
        if not self._auth:
            return ANYBODY
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else headers.get("X-API-Key", "")
        if not key:
            raise _unauthenticated("This needs a key", "Send Authorization: Bearer KEY, or X-API-Key: KEY")
        principal = await self._check(_hash(key))
        if principal is None:
            self._count(address)
            raise _unauthenticated(
                "The key is unknown, expired or revoked", "imi keys create makes a new one"
            )
        return principal

    async def _check(self, digest: str) -> Principal | None:
        if digest == self._own:
            return OPERATOR
        now = time.monotonic()
        until, found = self._kept.get(digest, (0.0, None))
        if found is None or until <= now:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = asyncio.ensure_future(self._find(digest))
            self._kept[digest] = (now + KEPT, found)
        return found.result() if found.done() else await asyncio.shield(found)

    async def _find(self, digest: str) -> Principal | None:
        try:
            row = await self._look_up(digest)
        except BaseException:
            self._kept.pop(digest, None)
            raise
        return Principal(row["key_id"], row["name"], row["scope"]) if row else None

    def _count(self, address: str) -> None:
        now = time.monotonic()
        recent = [at for at in self._failures.get(address, ()) if at > now - WINDOW]
        if len(recent) >= FAILURES:
            wait = {"Retry-After": str(math.ceil(recent[0] + WINDOW - now))}
            raise ApiError(429, "TOO_MANY_REQUESTS", "Too many wrong keys from this address", headers=wait)
        if len(self._failures) >= MOST_KEPT:
            self._failures.clear()
        self._failures[address] = [*recent, now]


def _hash(key: str) -> str:
    return sha256(key.encode(errors="surrogateescape")).hexdigest()


def _unauthenticated(message: str, hint: str) -> ApiError:
    return ApiError(401, "UNAUTHENTICATED", message, hint=hint, headers={"WWW-Authenticate": "Bearer"})


class Borders:
    """What may come in from where: the Host header when keys are off, and the Origin that browsers send."""

    def __init__(self, settings: Settings) -> None:
        self._auth = settings.auth
        self._origins = frozenset(settings.cors_origins)

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """403 for a foreign host when there are no keys, and for a mutation from a foreign origin."""
        host, origin = headers.get("Host"), headers.get("Origin")
        if not self._auth and not is_loopback(host):
            raise ApiError(
                403, "FORBIDDEN", "Without keys only this machine's own names are served", {"host": host}
            )
        # a page of this server's own may call it: that is /docs
        foreign = origin is not None and origin not in self._origins and origin.partition("://")[2] != host
        if foreign and method != "GET":
            hint = "Name it in IMI_CORS_ORIGINS"
            raise ApiError(403, "FORBIDDEN", "This origin may not change anything", {"origin": origin}, hint)

    def allow(self, headers: Mapping[str, str]) -> dict[str, str]:
        """What lets a listed origin's script read the answer."""
        if (origin := headers["Origin"]) not in self._origins:
            return {}
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": EXPOSED,
            "Vary": "Origin",
        }

    def preflight(self, headers: Mapping[str, str], methods: str) -> dict[str, str]:
        """What answers a preflight request; {} if it is none, 403 for a foreign origin."""
        if "Origin" not in headers or "Access-Control-Request-Method" not in headers:
            return {}
        self.check("OPTIONS", headers)
        granted = {"Methods": methods, "Headers": TAKEN}
        return {f"Access-Control-Allow-{name}": value for name, value in granted.items()} | {
            "Access-Control-Max-Age": "600"
        }
