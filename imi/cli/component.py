"""`imi components get`, `update` and `relations`: one component."""

from typing import Annotated, Any

import typer

from imi.cli.arguments import Kind, Metadata, given
from imi.cli.client import Api, is_uuid, segment
from imi.cli.command import command, group
from imi.cli.outcome import CONFLICT, NOT_FOUND, Failure
from imi.cli.render import Column, record, table

app = group("One component; commands of `imi components`.")

Component = Annotated[
    str,
    typer.Argument(metavar="COMPONENT", help="The component: its id, or its name if that is the only one."),
]
Within = Annotated[str | None, typer.Option("--project", help="Where the name is looked up.")]


def component_id(api: Api, component: str, project: str | None) -> str:
    """The id of a component named by its id or by its name."""
    if is_uuid(component):
        return component
    parent = project and api.project_id(project)
    listed = api.all("/components", parent_project_id=parent)
    ids = [each["id"] for each in listed if each["name"] == component]
    if not ids:
        raise Failure("NOT_FOUND", f"no component is called {component}", "imi components list", NOT_FOUND)
    if len(ids) > 1:
        raise Failure(
            "CONFLICT",
            f"{len(ids)} components are called {component}",
            "say whose with --project, or pass its id",
            CONFLICT,
        )
    return str(ids[0])


@command(app, "get", example="imi components get bloodbank", show=record)
def get(api: Api, component: Component, project: Within = None) -> Any:
    """Show one component."""
    return api.get(f"/components/{segment(component_id(api, component, project))}")


@command(app, "update", example="imi components update bloodbank --disabled", show=record)
def update(
    api: Api,
    component: Component,
    project: Within = None,
    path: Annotated[str | None, typer.Option(help="Where it is in the project.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="How it comes to be there.")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Whether it takes part.")
    ] = None,
    linked_project: Annotated[str | None, typer.Option(help="The project that it is: id or remote.")] = None,
    metadata: Metadata = None,
) -> Any:
    """Change what is given, leave the rest. Metadata is replaced as a whole."""
    body = given(
        path=path,
        kind=kind,
        enabled=enabled,
        linked_project_id=linked_project and api.project_id(linked_project),
        metadata=metadata,
    )
    return api.patch(f"/components/{segment(component_id(api, component, project))}", body)


def _name_components(api: Api, relations: dict[str, Any]) -> None:
    """Add to each relationship the names of its two components."""
    rows = [*relations["outgoing"], *relations["incoming"]]
    ids = sorted({row[f"{end}_component_id"] for row in rows for end in ("source", "target")})
    names = {each: api.get(f"/components/{each}")["name"] for each in ids}
    for row in rows:
        row |= {end: names[row[f"{end}_component_id"]] for end in ("source", "target")}


def _show_relations(relations: dict[str, Any]) -> Any:
    rows = [*relations["outgoing"], *relations["incoming"]]
    return table(rows, *RELATION) if rows else "none"


RELATION = (
    Column("source", "source", cut=True),
    Column("relation", "relationship_type"),
    Column("target", "target", cut=True),
    Column("id", "id", wide=100),
)


@command(
    app, "relations", example="imi components relations flume", show=_show_relations, add=_name_components
)
def relations(api: Api, component: Component, project: Within = None) -> Any:
    """List what a component is to others and others to it, one step. Further: graph and impact."""
    return api.get(f"/components/{segment(component_id(api, component, project))}/relationships")
