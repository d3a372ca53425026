"""What is served without the database: the document, and the page (docs/) that shows it with Swagger UI."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from imi.server.calls import Reply

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".png": "image/png",
}
POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def pages(document: bytes) -> dict[str, Reply]:
    """Each path and its whole answer."""
    own, theirs = Path(__file__).parent / "docs", swagger_ui()
    files = [own / "index.html", own / "start.js"]
    files += [theirs / name for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")]
    found = {"/": Reply(307, b"", {"Location": "/docs"}), "/openapi.json": Reply(200, document)}
    for file in files:
        path = "/docs" if file.name == "index.html" else f"/docs/{file.name}"
        headers = {"Content-Type": KINDS[file.suffix], "Content-Security-Policy": POLICY}
        found[path] = Reply(200, file.read_bytes(), headers)
    return found


def swagger_ui() -> Path:
    """The folder of Swagger UI's files in the package swagger-ui-py, found without importing it."""
    package = importlib.util.find_spec("swagger_ui")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("The package swagger-ui-py is missing: install iMi again")
    return Path(package.submodule_search_locations[0], "static")
