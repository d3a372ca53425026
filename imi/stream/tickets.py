"""Tickets: a key's stand-in for half a minute, where a browser can send no header.

A ticket names the key by its SHA-256 and the second in which it ends, and carries an HMAC over both; nothing
of it is stored. It opens the stream and nothing else, and only for as long as its key opens anything.
"""

from __future__ import annotations

import base64
import hmac
import time
from hashlib import sha256

LIFE = 30  # seconds


def issue(secret: str, digest: str) -> tuple[str, int]:
    """A ticket for a key, and the second of the epoch in which it ends."""
    expires = int(time.time()) + LIFE
    said = f"{expires}.{digest}"
    return base64.urlsafe_b64encode(f"{said}.{_mac(secret, said)}".encode()).decode().rstrip("="), expires


def digest_of(secret: str, ticket: str) -> str | None:
    """The SHA-256 of the key that a ticket stands for; None if it is not ours or has ended."""
    try:
        text = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4)).decode()
        expires, digest, mac = text.split(".")
    except ValueError:
        return None
    if not hmac.compare_digest(mac.encode(), _mac(secret, f"{expires}.{digest}").encode()):
        return None
    return digest if time.time() < int(expires) else None


def _mac(secret: str, said: str) -> str:
    return hmac.new(secret.encode(), said.encode(), sha256).hexdigest()
