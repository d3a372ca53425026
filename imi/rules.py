"""What the server, the command line and publishers must judge alike."""

import re

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""36 characters, and nothing of what else Python or PostgreSQL would take."""

EVENT_TYPE = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
LONGEST_EVENT_TYPE = 255

OCTET = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
USER = re.compile(r"(\w://)[^/?#\s]+@")
LOOPBACK = re.compile(rf"(localhost|127(\.{OCTET}){{3}}|\[::1\]|::1)(:[0-9]+)?", re.IGNORECASE)


def is_loopback(name: str | None) -> bool:
    """Whether a host's name or address, with or without a port, is this machine to itself."""
    return name is not None and LOOPBACK.fullmatch(name) is not None


def masked(text: str) -> str:
    """The text without what its URLs hold for a server's door: a password, or a token in the user's place."""
    return USER.sub(r"\1***@", text)
