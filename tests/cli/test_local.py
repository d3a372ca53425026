"""Requests without httpx: kept connections, late and broken answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from imi.cli import local
from imi.cli.local import Local

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Name: value\r\n\r\nhi"


@contextmanager
def served(talk: Callable[[socket.socket], None]) -> Iterator[tuple[Local, list[bytes]]]:
    """A server that does `talk` after each request of a connection; and the requests. A body is `{}`."""
    listener = socket.create_server(("127.0.0.1", 0))
    read: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            said = b""
            while more := connection.recv(65536):
                said += more
                if said.endswith((b"\r\n\r\n{}", b"\r\n\r\n")) and (b"POST" in said) == said.endswith(b"{}"):
                    read.append(said)
                    said = b""
                    talk(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    made = Local(f"http://127.0.0.1:{listener.getsockname()[1]}/base", {"X-Agent-Id": "ada"})
    try:
        yield made, read
    finally:
        made.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_connection_is_kept_until_the_server_ends_it() -> None:
    connections: list[socket.socket] = []

    def talk(connection: socket.socket) -> None:
        connections.append(connection)
        connection.sendall(OK)

    with served(talk) as (made, read):
        status, content, headers = made.request("GET", "/a", {"q": "ü &"}, None, {"X-Own": "1"})
        assert (status, content, headers["x-name"]) == (200, b"hi", "value")
        made.request("POST", "/b", {}, b"{}", {})
        assert connections[0] is connections[1]
        connections[0].shutdown(socket.SHUT_RDWR)
        made.request("GET", "/c", {}, None, {})
        assert connections[2] is not connections[0]
    assert read[0].startswith(b"GET /base/a?q=%C3%BC+%26 HTTP/1.1\r\n")
    assert b"X-Agent-Id: ada" in read[0] and b"X-Own: 1" in read[0]


def test_threads_have_connections_of_their_own() -> None:
    together = threading.Barrier(4, timeout=30)

    def talk(connection: socket.socket) -> None:
        together.wait()
        connection.sendall(OK)

    with served(talk) as (made, _), ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: made.request("GET", "/", {}, None, {})[0], range(4)))
    assert found == [200] * 4


def test_an_answer_that_breaks_off_or_is_none() -> None:
    for said in (b"", b"SMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi"):

        def talk(connection: socket.socket, said: bytes = said) -> None:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_RDWR)

        with served(talk) as (made, _), pytest.raises(ConnectionError):
            made.request("GET", "/", {}, None, {})


def test_a_late_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ANSWER", 0.1)
    with served(lambda connection: None) as (made, _), pytest.raises(TimeoutError):
        made.request("GET", "/", {}, None, {})
