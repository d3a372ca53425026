"""How long and how much, for one connection and for all of them."""

BEAT = 30.0  # seconds between two heartbeats
UNSENT = 4 << 20  # bytes a client may leave unread; one page more may come on top
HELD = 256 << 20  # bytes that all clients together may leave unread
LINGER = 5.0  # seconds for the last words of a connection
