"""The HTTP client, and what its answers mean for the exit code."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from imi.cli.outcome import UNREACHABLE, Failure, usage
from imi.cli.refusals import keyless, refusal, text
from imi.cli.render import Bar
from imi.rules import UUID

if TYPE_CHECKING:
    import httpx

    from imi.cli.local import Local
    from imi.connection import Connection

SEE = "see --agent, --api-url and --api-key"
PAGE = 1000
"""How many items a page asks for when all of a list is wanted; the server may answer fewer."""


class Reply(NamedTuple):
    """An answer: its HTTP status, its JSON (None for 204), and its headers."""

    status: int
    data: Any
    headers: Mapping[str, str]


@contextmanager
def connect(*, agent: str | None, api_url: str | None, api_key: str | None, quiet: bool) -> Iterator[Api]:
    """The API as the flags, then the environment, then the defaults say. `quiet`: no progress bar."""
    from imi import config, connection

    try:
        settings = config.load()
    except config.ConfigError as error:
        raise Failure("CONFIG", str(error)) from None
    try:
        found = connection.find(settings, agent, api_url, api_key)
    except config.ConfigError as error:
        usage(str(error), SEE)
    away = "start it with `imi up`, or name another: --api-url or IMI_API_URL"
    if found.url == connection.DEFAULT_URL and not (api_url or settings.api_url):
        away = f"no `imi up` runs in {settings.data_dir} (IMI_DATA_DIR): {away}"
    with Bar(enabled=not quiet) as bar, closing(Api(found, bar, away, keyless(settings, found))) as api:
        yield api


class Api:
    """The server's operations by method and path below /api/v1. Every refusal is a Failure.

    `away` says what to do when the server does not answer, `keyless` when it wants a key and none was found.
    """

    is_light = False

    def __init__(self, found: Connection, bar: Bar, away: str, keyless: str | None) -> None:
        self.found, self.actor, self.bar, self.away, self.keyless = found, found.actor, bar, away, keyless

    @cached_property
    def http(self) -> httpx.Client:
        """The client, made when it is first needed: importing httpx takes longer than most git commands."""
        import httpx

        from imi.config import ConfigError

        try:
            return httpx.Client(**self.found.client)
        except ConfigError as error:
            usage(str(error), SEE)

    @cached_property
    def local(self) -> Local:
        """The connections to a server on this machine."""
        from imi.cli.local import Local

        return Local(self.found.url, self.found.headers)

    def prepare(self) -> None:
        """Import what asks the server beside what comes next, for a command that asks it last: for one on
        this machine that is not httpx, whose import takes longer than all of a create's git."""
        self.is_light = self.found.is_plain
        module = "imi.cli.local" if self.is_light else "httpx"
        threading.Thread(target=import_module, args=(module,), daemon=True).start()

    def close(self) -> None:
        """Close the clients that were made."""
        for made in self.__dict__.keys() & {"http", "local"}:
            getattr(self, made).close()

    def call(
        self,
        method: str,
        path: str,
        /,
        body: Any = None,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        """Send one request; query parameters that are None are left out, as is a body that is None."""
        if not self.is_light:
            answer = self._send(method, path, body, query, headers)
            return self._judge(answer.status_code, answer.content, answer.headers)
        try:
            request = method, f"/api/v1{path}", _params(query), *_content(body, headers)
            return self._judge(*self.local.request(*request))
        except TimeoutError:
            raise self._unreachable("does not answer in time") from None
        except OSError as error:
            raise self._unreachable(f"cannot be reached: {error}") from None

    def text(self, path: str, /, **query: Any) -> str:
        """The text of a GET that answers plain text."""
        answer = self._send("GET", path, None, query)
        if answer.is_success and answer.headers.get("Content-Type", "").startswith("text/plain"):
            return answer.text
        self._judge(answer.status_code, answer.content, answer.headers)
        raise self._not_imi(answer.status_code)

    def _send(
        self, method: str, path: str, body: Any, query: dict[str, Any], headers: dict[str, str] | None = None
    ) -> httpx.Response:
        import httpx

        params, (content, more) = _params(query), _content(body, headers)
        try:
            return self.http.request(method, f"/api/v1{path}", params=params, content=content, headers=more)
        except httpx.TimeoutException:
            raise self._unreachable("does not answer in time") from None
        except httpx.TransportError as error:
            raise self._unreachable(f"cannot be reached: {error}") from None

    @contextmanager
    def stream(self, path: str, timeout: httpx.Timeout, **query: Any) -> Iterator[httpx.Response]:
        """An answer that goes on; what breaks it off later is httpx's own error."""
        import httpx

        address = f"/api/v1{path}"
        request = self.http.build_request("GET", address, params=_params(query), timeout=timeout)
        try:
            answer = self.http.send(request, stream=True)
        except httpx.TransportError as error:
            raise self._unreachable(f"cannot be reached: {error}") from None
        with closing(answer):
            if not answer.is_success:
                answer.read()
                self._judge(answer.status_code, answer.content, answer.headers)
            yield answer

    def get(self, path: str, /, **query: Any) -> Any:
        """The data of a GET."""
        return self.call("GET", path, **query).data

    def post(self, path: str, body: Any) -> Any:
        """The data of a POST."""
        return self.call("POST", path, body).data

    def patch(self, path: str, body: Any) -> Any:
        """The data of a PATCH."""
        return self.call("PATCH", path, body).data

    def list(self, path: str, everything: bool, limit: int, offset: int, /, **query: Any) -> dict[str, Any]:
        """A list as {items, total, offset, limit}: one page of it, or with `everything` all its pages."""
        if not everything:
            return dict(self.get(path, limit=limit, offset=offset, **query))
        items = [*self.all(path, **query)]
        return {"items": items, "total": len(items), "offset": 0, "limit": len(items)}

    def all(self, path: str, /, **query: Any) -> Iterator[Any]:
        """The items of all pages of a list."""
        done = 0
        while True:
            page = self.get(path, limit=PAGE, offset=done, **query)
            yield from page["items"]
            done += len(page["items"])
            self.bar.show("reading", done, page["total"])
            if not page["items"] or done >= page["total"]:
                return

    def project_id(self, project: str) -> str:
        """The id of a project named by its id or by any spelling of its remote."""
        if is_uuid(project):
            return project
        return str(self.get("/projects/by-origin", remote_origin=project)["id"])

    def _unreachable(self, why: str) -> Failure:
        return Failure("UNREACHABLE", f"the server at {self.found.shown} {why}", self.away, UNREACHABLE)

    def _not_imi(self, status: int) -> Failure:
        return Failure(
            "NOT_IMI",
            f"what answers at {self.found.shown} (status {status}) is not iMi",
            "name the right server: --api-url or IMI_API_URL",
        )

    def _judge(self, status: int, content: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            data: Any = json.loads(content) if content else None
            if 200 <= status < 300:
                headers["X-Request-ID"]  # a KeyError: all that iMi answers has one
                return Reply(status, data, headers)
            refused = refusal(status, data["detail"], self.keyless)
        except (ValueError, TypeError, KeyError):
            raise self._not_imi(status) from None
        raise refused


def _content(body: Any, headers: dict[str, str] | None) -> tuple[bytes | None, dict[str, str]]:
    """A body as it is sent, and the headers with what it is."""
    if body is None:
        return None, headers or {}
    return json.dumps(body).encode(), {"Content-Type": "application/json"} | (headers or {})


def _params(query: dict[str, Any]) -> dict[str, str]:
    return {name: _utf8(text(value)) for name, value in query.items() if value is not None}


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID, as the server spells them."""
    return UUID.fullmatch(text) is not None


def _utf8(text: str) -> str:
    """The text, unless it holds bytes that are not UTF-8: no URL says those."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        usage(f"{text} is not UTF-8 text")
    return text


def segment(text: str) -> str:
    """The text as one segment of a path, slashes and all; `.` and `..` are refused, no URL can hold them."""
    if text in (".", "..", ""):
        usage(f"{text!r} names nothing")
    return quote(_utf8(text), safe="")
