"""The document as people see it: in a browser, without any other host."""

from __future__ import annotations

import json
import re
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
    assert answer.json() == json.loads(json.dumps(pages.shown(CONTRACT.document)))
    assert answer.json()["openapi"] == "3.1.0"


def test_every_parameter_stands_in_its_operation(anybody: httpx.Client) -> None:
    served = anybody.get("/openapi.json").json()["paths"]
    for path, item in CONTRACT.document["paths"].items():
        assert "parameters" not in served[path]
        for method in item.keys() & METHODS:
            parameters = served[path][method]["parameters"]
            assert len(parameters) == len(item["parameters"] + item[method].get("parameters", []))
            for each in parameters:
                assert each["name"] and each["in"] and each["description"], (method, path, each)
                assert each.get("schema") or each["content"], (method, path, each)
            assert "$ref" not in json.dumps(parameters)
            in_path = {each["name"] for each in parameters if each["in"] == "path"}
            assert in_path == {*re.findall(r"{(\w+)}", path)}
    (status,) = (each for each in served["/api/v1/work"]["get"]["parameters"] if each["name"] == "status")
    assert status["description"] == status["schema"]["description"]


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


def dom_of(url: httpx.URL, tmp_path: Path) -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert browser, "tests/needs installs chromium"
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path}", str(url)]
    return subprocess.run(command, capture_output=True, timeout=120, check=True).stdout.decode()


def test_a_browser_shows_every_operation(anybody: httpx.Client, tmp_path: Path) -> None:
    dom = dom_of(anybody.base_url.join("/docs"), tmp_path)
    assert dom.count('class="opblock opblock-') == sum(
        len({*METHODS} & {*item}) for item in CONTRACT.document["paths"].values()
    )
    for path, item in CONTRACT.document["paths"].items():
        for operation in item.values():
            if isinstance(operation, dict):
                assert operation["summary"].replace("'", "'") in dom, path
    assert "Failed to load" not in dom and "Unable to render" not in dom


def test_a_browser_shows_the_names_of_an_operations_parameters(anybody: httpx.Client, tmp_path: Path) -> None:
    dom = dom_of(anybody.base_url.join("/docs#/events/event_descendants"), tmp_path)
    names = re.findall(r'class="parameter__name[^>]*>([^<]*)<', dom)
    assert names == ["event_id", "X-Request-ID", "X-Correlation-ID", "format", "max_depth"]


def test_without_its_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="swagger-ui-py is missing"):
        pages.swagger_ui()
