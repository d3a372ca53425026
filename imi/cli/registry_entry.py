"""`imi registry-entry`: iMi as the services registry of the bus names its services."""

from typing import Any

from imi.cli.client import Api
from imi.cli.command import command, group

app = group("The services registry.")


def _show(entry: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump({"services": entry}, sort_keys=False, allow_unicode=True, width=100).rstrip()


@command(app, "registry-entry", example="imi registry-entry --api-url http://localhost:8400", show=_show)
def registry_entry(api: Api) -> dict[str, Any]:
    """Print iMi's entry for services/registry.yaml: its queue, its events, its place. Needs no server."""
    from imi.bloodbank import schemas
    from imi.bloodbank.rabbitmq import QUEUE

    url = str(api.http.base_url).rstrip("/")
    types = list(schemas.schemas())
    answers = ("imi.cmd.done", "imi.cmd.failed")
    produces = [
        each
        for each in types
        if each.startswith("imi.") and (each in answers or not each.startswith("imi.cmd."))
    ]
    return {
        "imi": {
            "name": "imi",
            "description": "Projects, work in flight and every event of the bus with its causes",
            "type": "event-consumer",
            "queue_name": QUEUE,
            "routing_keys": ["#"],
            "status": "active",
            "owner": "33GOD",
            "tags": ["infrastructure", "persistence", "event-sourcing", "postgresql"],
            "produces": produces,
            "consumes": [each for each in types if each not in produces],
            "endpoints": {
                "api": f"{url}/api/v1",
                "health": f"{url}/health",
                "docs": f"{url}/docs",
            },
        }
    }
