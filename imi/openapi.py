"""The OpenAPI document that travels with this package, openapi.yaml, and the way along its references."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml


def read() -> dict[str, Any]:
    """The document, the reader's own."""
    text = resources.files("imi").joinpath("openapi.yaml").read_bytes()
    document: dict[str, Any] = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return document


def expanded(document: dict[str, Any], node: Any) -> Any:
    """The node with every reference replaced by what it names in the document, whatever file it says that is;
    what stands beside a reference wins."""
    if isinstance(node, list):
        return [expanded(document, each) for each in node]
    if not isinstance(node, dict):
        return node
    beside = {key: expanded(document, value) for key, value in node.items() if key != "$ref"}
    if "$ref" not in node:
        return beside
    target: Any = document
    for key in node["$ref"].partition("#/")[2].split("/"):
        target = target[key]
    return expanded(document, target) | beside
