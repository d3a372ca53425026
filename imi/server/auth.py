"""Who may enter: keys and their scopes, the origins of browsers, and the host's name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from imi.attempts import MOST, Attempts, keep
from imi.config import ConfigError, Settings
from imi.rules import is_loopback
from imi.server.errors import ApiError

SCOPES = ("read", "write", "admin")
KEPT = 5.0  # seconds that a look at a key is believed
EXPOSED = "X-Request-ID, X-Next-Cursor, X-Total-Count, Retry-After"
TAKEN = "Authorization, X-API-Key, Content-Type, Idempotency-Key, X-Agent-Id, X-Correlation-ID, X-Request-ID"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whose key it is, and the key's SHA-256."""

    id: str
    name: str
    scope: str
    digest: str = ""

    def require(self, scope: str) -> None:
        """403 unless the key's scope contains this one."""
        if SCOPES.index(self.scope) < SCOPES.index(scope):
            params = {"scope": self.scope, "needed": scope}
            raise ApiError(403, "FORBIDDEN", f"This needs a key of scope {scope}", params)


ANYBODY = Principal("none", "anybody", "admin")  # with IMI_AUTH=off
OPERATOR = Principal("IMI_API_KEY", "IMI_API_KEY", "admin")


class Keys:
    """Keys, each looked up at most every five seconds, and the addresses that try wrong ones.

    An address with too many wrong keys in the last minute has no other key looked up, except those that were
    good before: whoever works behind the same address goes on, and only who is new there waits.
    """

    def __init__(self, settings: Settings, look_up: Callable[[str], Awaitable[Any]]) -> None:
        self._auth = settings.auth
        self._look_up = look_up  # a key's SHA-256 -> its row (key_id, name, scope), or None
        self._own = _hash(settings.api_key) if settings.api_key else ""
        self._operator = replace(OPERATOR, digest=self._own)
        self._good: dict[str, tuple[float, Principal]] = {}  # by the key's hash; until when it is believed
        self._looks: dict[str, asyncio.Future[Principal | None]] = {}  # under way
        self._failures = Attempts()

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
            raise unauthenticated(
                "This needs a key", "Send Authorization: Bearer KEY (imi: --api-key or IMI_API_KEY)"
            )
        digest = _hash(key)
        if digest not in self._good and digest != self._own:
            self.refuse(address)
        if principal := await self.holder(digest):
            return principal
        self.fail(address)
        raise unauthenticated("The key is unknown, expired or revoked", "imi keys create makes a new one")

    def refuse(self, address: str) -> None:
        """429 after too many bad keys from this address."""
        limit(self._failures, address, "wrong keys")

    def fail(self, address: str) -> None:
        """Count a bad one."""
        self._failures.add(address)

    async def holder(self, digest: str) -> Principal | None:
        """Whose key has this SHA-256, if it opens anything."""
        if not self._auth:
            return ANYBODY
        if digest == self._own:
            return self._operator
        until, known = self._good.get(digest, (0.0, None))
        return known if known and time.monotonic() < until else await self._look(digest)

    def _look(self, digest: str) -> Awaitable[Principal | None]:
        """What the database says, asked once for all who ask at the same time."""
        look = self._looks.get(digest)
        if look is None:
            look = self._looks[digest] = asyncio.ensure_future(self._find(digest))
            look.add_done_callback(lambda done: done.cancelled() or done.exception())  # even if nobody asks
            look.add_done_callback(lambda _: self._looks.pop(digest))
        return asyncio.shield(look)

    async def _find(self, digest: str) -> Principal | None:
        row = await self._look_up(digest)
        if row is None:
            self._good.pop(digest, None)
            return None
        principal = Principal(row["key_id"], row["name"], row["scope"], digest)
        keep(self._good, digest, (time.monotonic() + KEPT, principal))
        return principal


def _hash(key: str) -> str:
    return sha256(key.encode(errors="surrogateescape")).hexdigest()


def limit(attempts: Attempts, address: str, what: str) -> None:
    """429 while this address has had as many as it may."""
    if seconds := attempts.wait(address):
        wait = {"Retry-After": str(seconds)}
        hint = f"{MOST} a minute are allowed: wait {seconds} s"
        raise ApiError(
            429, "TOO_MANY_REQUESTS", f"Too many {what} from this address", hint=hint, headers=wait
        )


def unauthenticated(message: str, hint: str) -> ApiError:
    """401: try with a good key."""
    return ApiError(401, "UNAUTHENTICATED", message, hint=hint, headers={"WWW-Authenticate": "Bearer"})


class Borders:
    """What may come in from where: the Host header when keys are off, and the Origin that browsers send."""

    def __init__(self, settings: Settings) -> None:
        self._auth = settings.auth
        self._origins = frozenset(settings.cors_origins)

    def check(self, method: str, headers: Mapping[str, str]) -> None:
        """403 for a foreign host when there are no keys, and for all but a GET from a foreign origin."""
        host, origin = headers.get("Host"), headers.get("Origin")
        if not self._auth and not is_loopback(host):
            said = {"host": host and ascii(host)[1:-1]}  # it need not be UTF-8
            raise ApiError(403, "FORBIDDEN", "Without keys only this machine's own names are served", said)
        # a page of this server's own may call it: that is /docs
        own = (f"http://{host}", f"https://{host}")
        if origin is not None and origin not in self._origins and origin not in own and method != "GET":
            said = {"origin": ascii(origin)[1:-1]}
            hint = "Name it in IMI_CORS_ORIGINS"
            raise ApiError(403, "FORBIDDEN", "This origin may not change anything", said, hint)

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
