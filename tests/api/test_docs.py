"""The document as people see it: in a browser, without any other host."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from imi.server import pages
from imi.server.contract import METHODS
from tests.serving import CONTRACT

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--virtual-time-budget=20000", "--dump-dom",
)  # fmt: skip


def test_the_document_is_served(anybody: httpx.Client) -> None:
    answer = anybody.get("/openapi.json")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == json.loads(json.dumps(CONTRACT.document))
    assert answer.json()["openapi"] == "3.1.0"


def test_the_root_leads_to_the_page(anybody: httpx.Client) -> None:
    answer = anybody.get("/")
    assert (answer.status_code, answer.headers["Location"]) == (307, "/docs")


def test_the_page_names_no_other_host(anybody: httpx.Client) -> None:
    page = anybody.get("/docs")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "//" not in page.text
    for kind, path in (
        ("text/css", "/docs/swagger-ui.css"),
        ("text/javascript", "/docs/swagger-ui-bundle.js"),
        ("text/javascript", "/docs/start.js"),
        ("image/png", "/docs/favicon-32x32.png"),
    ):
        assert path in page.text
        answer = anybody.get(path)
        assert answer.is_success and answer.headers["Content-Type"].startswith(kind)
    assert b"SwaggerUI" in anybody.get("/docs/swagger-ui-bundle.js").content


def test_a_browser_shows_every_operation(anybody: httpx.Client, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "tests/needs installs chromium"
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path}", str(anybody.base_url.join("/docs"))]
    dom = subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()
    assert dom.count('class="opblock opblock-') == sum(
        len({*METHODS} & {*item}) for item in CONTRACT.document["paths"].values()
    )
    for path, item in CONTRACT.document["paths"].items():
        for operation in item.values():
            if isinstance(operation, dict):
                assert operation["summary"].replace("'", "'") in dom, path
    assert "Failed to load" not in dom and "Unable to render" not in dom


def test_without_its_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="swagger-ui-py is missing"):
        pages.swagger_ui()
