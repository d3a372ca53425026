"""`imi components`: what a project is made of, and what depends on what."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli import component as _component
from imi.cli.arguments import (
    Everything,
    Kind,
    Limit,
    Metadata,
    Offset,
    OfProject,
    Project,
    Relation,
    WithMetadata,
    given,
)
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.component import Component, Within, component_id
from imi.cli.names import PROJECT, name_projects
from imi.cli.render import Column, page, table

app = group("Components of a project, and what depends on what.")


@command(
    app,
    "list",
    example="imi components list --project https://github.com/33GOD/33GOD --kind submodule",
    show=page(
        Column("name", "name", cut=True),
        Column("kind", "kind"),
        Column("path", "path", cut=True),
        Column("enabled", "enabled"),
        PROJECT,
        Column("id", "id", wide=110),
    ),
    add=lambda api, page: name_projects(api, page["items"], "parent_project_id"),
)
def list_(
    api: Api,
    project: OfProject = None,
    kind: Annotated[Kind | None, typer.Option(help="Of this kind only.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Only these.")] = None,
    metadata: WithMetadata = None,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List components, newest first."""
    return api.list(
        "/components",
        everything,
        limit,
        offset,
        parent_project_id=project and api.project_id(project),
        kind=kind,
        enabled=enabled,
        metadata=metadata,
    )


@command(
    app,
    "register",
    example="imi components register PROJECT bloodbank bloodbank/trunk-main --kind submodule",
    show=lambda component: component["id"],
)
def register(
    api: Api,
    project: Project,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, once in a project.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Where it is in the project.")],
    kind: Annotated[Kind, typer.Option(help="How it comes to be there.")] = "local",
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Whether it takes part.")
    ] = None,
    linked_project: Annotated[str | None, typer.Option(help="The project that it is: id or remote.")] = None,
    metadata: Metadata = None,
) -> Any:
    """Register a component and print its id. Again: what is given is changed."""
    body = given(
        parent_project_id=api.project_id(project),
        name=name,
        path=path,
        kind=kind,
        enabled=enabled,
        linked_project_id=linked_project and api.project_id(linked_project),
        metadata=metadata,
    )
    return api.post("/components", body)


def _show_seeded(summary: dict[str, Any]) -> Any:
    from rich.console import Group

    counts = ", ".join(f"{summary[what]} {what}" for what in ("created", "updated", "unchanged"))
    changed = [each for each in summary["components"] if each["action"] != "unchanged"]
    drawn = (
        [table(changed, Column("component", "name", cut=True), Column("action", "action"))] if changed else []
    )
    return Group(*drawn, f"{'would be ' if summary['dry_run'] else ''}{counts}")


@command(app, "seed", example="imi components seed components.toml --dry-run", show=_show_seeded)
def seed(
    api: Api,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A components.toml.")
    ],
    project: Annotated[
        str | None,
        typer.Option(
            help="Whose they are: an id, or a remote, registered if it is new.  [default: the git remote of "
            "the repository that holds FILE]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
) -> Any:
    """Register the components of a manifest.

    The manifest is TOML with a table [components] of NAME = {path, kind, enabled}. Other keys of an entry
    become its metadata. A component that the manifest does not name is left alone. Running it again
    changes only what the manifest has changed.
    """
    from imi.cli.seed import seed

    return seed(api, file, project, dry_run)


@command(
    app,
    "relate",
    example="imi components relate flume produces_events_for candybar",
    show=lambda relationship: relationship["id"],
)
def relate(
    api: Api,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A component: its id or its name.")],
    relation: Annotated[
        Relation,
        typer.Argument(
            metavar="RELATION",
            help="What the first is to the second: depends_on, produces_events_for or consumes_events_from.",
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The other component.")],
    project: Within = None,
    metadata: Metadata = None,
) -> Any:
    """Say how two components relate. Prints the relationship's id."""
    path = f"/components/{segment(component_id(api, source, project))}/relationships"
    target_id = component_id(api, target, project)
    return api.post(path, given(target_component_id=target_id, relationship_type=relation, metadata=metadata))


def _show_graph(graph: dict[str, Any]) -> Any:
    from rich.console import Group

    names = {node["id"]: node["name"] for node in graph["nodes"]}

    def relations(node: Any) -> str:
        edges = (edge for edge in graph["edges"] if edge["source"] == node["id"])
        return ", ".join(f"{edge['type']} {names[edge['target']]}" for edge in edges)

    drawn = table(
        graph["nodes"],
        Column("depth", "depth", right=True),
        Column("component", "name", cut=True),
        Column("kind", "kind", wide=100),
        Column("relations", relations, cut=True),
    )
    return Group(drawn, *(["cut: there is more behind; see --depth"] if graph["truncated"] else []))


Depth = Annotated[int | None, typer.Option(min=0, help="How many steps to follow.")]
OfType = Annotated[Relation | None, typer.Option("--type", help="Follow these relationships only.")]


@command(app, "graph", example="imi components graph flume --depth 2", show=_show_graph)
def graph(
    api: Api, component: Component, project: Within = None, depth: Depth = None, relation: OfType = None
) -> Any:
    """Show what a component depends on. Step by step, each component once."""
    return _walk(api, component, project, "out", depth, relation)


@command(app, "impact", example="imi components impact bloodbank --type depends_on", show=_show_graph)
def impact(
    api: Api, component: Component, project: Within = None, depth: Depth = None, relation: OfType = None
) -> Any:
    """Show what depends on a component. That is what a change of it may reach."""
    return _walk(api, component, project, "in", depth, relation)


def _walk(
    api: Api, component: str, project: str | None, direction: str, depth: int | None, relation: str | None
) -> Any:
    path = f"/components/{segment(component_id(api, component, project))}/graph"
    return api.get(path, direction=direction, depth=depth, type=relation)


app.add_typer(_component.app)
