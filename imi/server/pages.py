"""What is served without the database: the document, and the page (docs/) that shows it with Swagger UI."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import orjson

from imi import openapi
from imi.server.calls import Reply
from imi.server.contract import METHODS

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def pages(document: dict[str, Any]) -> dict[str, Reply]:
    """Each path and its whole answer."""
    own, theirs = Path(__file__).parent / "docs", swagger_ui()
    files = [own / "index.html", own / "start.js"]
    files += [theirs / name for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")]
    found = {
        "/": Reply(307, b"", {"Location": "/docs"}),
        "/openapi.json": Reply(200, orjson.dumps(shown(document))),
    }
    for file in files:
        path = "/docs" if file.name == "index.html" else f"/docs/{file.name}"
        headers = {"Content-Type": KINDS[file.suffix], "Content-Security-Policy": POLICY}
        found[path] = Reply(200, file.read_bytes(), headers)
    return found


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """The document with every operation's parameters written out in it, those of its path first: Swagger UI
    shows a reference as a box without a name. One that is not described is what its schema is said to be."""
    paths = {path: dict(item) for path, item in document["paths"].items()}
    for item in paths.values():
        of_all = item.pop("parameters", [])
        for method in item.keys() & METHODS:
            parameters = openapi.expanded(document, of_all + item[method].get("parameters", []))
            for each in parameters:
                if said := each.get("schema", {}).get("description"):
                    each.setdefault("description", said)
            item[method] = item[method] | {"parameters": parameters}
    components = {kind: named for kind, named in document["components"].items() if kind != "parameters"}
    return document | {"paths": paths, "components": components}


def swagger_ui() -> Path:
    """The folder of Swagger UI's files in the package swagger-ui-py, found without importing it."""
    package = importlib.util.find_spec("swagger_ui")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("The package swagger-ui-py is missing: install iMi again")
    return Path(package.submodule_search_locations[0], "static")
