"""Requests to a server on this machine by the standard library: it is imported in a third of httpx's time,
and over plain HTTP on loopback there are no certificates and no proxies to mind."""

from __future__ import annotations

import select
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

CONNECT, ANSWER = 5.0, 40.0


class Local:
    """Connections to a server, kept for the next request. Threads may share it."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.prefix = parts.hostname or "", parts.port or 80, parts.path
        self.headers = dict(headers)
        self.idle: list[HTTPConnection] = []

    def request(
        self, method: str, path: str, query: Mapping[str, str], body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Any]:
        """One request, and its answer: status, content, headers (by names in any case). OSError says why
        there is none, TimeoutError that it is late."""
        address = self.prefix + path + ("?" + urlencode(query) if query else "")
        connection = self._connection()
        try:
            connection.request(method, address, body, {**self.headers, **headers})
            said = connection.getresponse()
            answer = said.status, said.read(), said.headers
        except HTTPException as error:
            connection.close()
            raise ConnectionError(f"its answer breaks off ({type(error).__name__})") from None
        except BaseException:
            connection.close()
            raise
        self.idle.append(connection)
        return answer

    def _connection(self) -> HTTPConnection:
        """An open connection: one that is idle and that the server has not closed, else a new one."""
        with suppress(IndexError):  # another thread may take the last one between a look and this
            while True:
                kept = self.idle.pop()
                if kept.sock and not _has_ended(kept):
                    return kept
                kept.close()
        made = HTTPConnection(self.host, self.port, timeout=CONNECT)
        made.connect()
        made.sock.settimeout(ANSWER)
        return made

    def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            self.idle.pop().close()


def _has_ended(connection: HTTPConnection) -> bool:
    """Whether the server has something to say though nobody asked: its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
