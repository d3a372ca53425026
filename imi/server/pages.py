"""What is served without the database: the document, the page that shows it, and Swagger UI's files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from imi.server.calls import Reply

DOCS = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>iMi API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
START = b"""SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#page", deepLinking: true, persistAuthorization: true,
  defaultModelsExpandDepth: 0, displayRequestDuration: true, filter: true, validatorUrl: null,
})
"""
HTML = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".png": "image/png"}


def pages(document: bytes) -> dict[str, Reply]:
    """Each path and its whole answer."""
    found = {
        "/": Reply(307, b"", {"Location": "/docs"}),
        "/openapi.json": Reply(200, document),
        "/docs": Reply(200, DOCS, HTML),
        "/docs/start.js": Reply(200, START, {"Content-Type": KINDS[".js"]}),
    }
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"):
        path = swagger_ui() / name
        headers = {"Content-Type": KINDS[path.suffix], "Cache-Control": "max-age=86400"}
        found[f"/docs/{name}"] = Reply(200, path.read_bytes(), headers)
    return found


def swagger_ui() -> Path:
    """The folder of Swagger UI's files in the package swagger-ui-py, found without importing it."""
    package = importlib.util.find_spec("swagger_ui")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError("The package swagger-ui-py is missing: install iMi again")
    return Path(package.submodule_search_locations[0], "static")
