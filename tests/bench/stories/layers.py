"""Repositories, which know the database, and services, which know the rules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from fastapi import HTTPException
from models import Base, Event, Project, TicketLink, WorkItem
from schemas import (
    Chain,
    DeployResponse,
    Entity,
    GitStateUpdate,
    ProjectResponse,
    PrResponse,
    TicketResponse,
    TraceResponse,
    WorkItemResponse,
)
from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

Model = TypeVar("Model", bound=Base)


class BaseRepository(Generic[Model]):
    model: type[Model]

    def __init__(self, db: AsyncSession) -> None:
        self.db = db

    async def get_by_id(self, id: UUID) -> Model | None:
        return await self.db.get(self.model, id)

    async def update(self, id: UUID, data: dict[str, Any]) -> Model | None:
        return await self.db.scalar(update(self.model).filter_by(id=id).values(**data).returning(self.model))


class ProjectRepository(BaseRepository[Project]):
    model = Project

    async def get_by_remote_origin(self, remote_origin: str) -> Project | None:
        return await self.db.scalar(
            select(Project).where(Project.remote_origin == remote_origin, Project.active)
        )


class WorkRepository(BaseRepository[WorkItem]):
    model = WorkItem

    async def list_inflight(self, project_id: UUID | None, limit: int) -> list[WorkItem]:
        query = (
            select(WorkItem)
            .where(
                WorkItem.active,
                or_(WorkItem.has_uncommitted_changes, WorkItem.ahead_of_trunk > 0, WorkItem.behind_trunk > 0),
            )
            .order_by(WorkItem.created_at.desc(), WorkItem.id.desc())
            .limit(limit)
        )
        if project_id:
            query = query.where(WorkItem.project_id == project_id)
        return list(await self.db.scalars(query))

    async def for_ticket(self, plane_ticket_id: str) -> list[WorkItem]:
        query = (
            select(WorkItem)
            .join(TicketLink)
            .where(TicketLink.plane_ticket_id == plane_ticket_id)
            .options(
                selectinload(WorkItem.tickets), selectinload(WorkItem.prs), selectinload(WorkItem.deploys)
            )
        )
        return list(await self.db.scalars(query))


def not_found(what: str) -> HTTPException:
    return HTTPException(404, {"code": "NOT_FOUND", "message": f"{what} not found"})


class ProjectService:
    def __init__(self, db: AsyncSession) -> None:
        self.projects = ProjectRepository(db)

    async def get_project(self, id: UUID) -> ProjectResponse:
        project = await self.projects.get_by_id(id)
        if project is None:
            raise not_found("Project")
        return ProjectResponse.model_validate(project)

    async def get_by_remote_origin(self, url: str) -> ProjectResponse:
        project = await self.projects.get_by_remote_origin(url)
        if project is None:
            raise not_found("Project")
        return ProjectResponse.model_validate(project)


class WorkService:
    def __init__(self, db: AsyncSession) -> None:
        self.db = db
        self.work = WorkRepository(db)

    async def get_work_item(self, id: UUID) -> WorkItemResponse:
        item = await self.work.get_by_id(id)
        if item is None:
            raise not_found("Work item")
        return WorkItemResponse.model_validate(item)

    async def get_inflight(self, project_id: UUID | None, limit: int) -> list[WorkItemResponse]:
        items = await self.work.list_inflight(project_id, limit)
        return [WorkItemResponse.model_validate(item) for item in items]

    async def update_git_state(self, id: UUID, data: GitStateUpdate) -> WorkItemResponse:
        """The row and its event in one transaction."""
        now = datetime.now(UTC)
        changes = data.model_dump(exclude_unset=True)
        item = await self.work.update(id, changes | {"last_sync_at": now, "updated_at": now})
        if item is None:
            raise not_found("Work item")
        response = WorkItemResponse.model_validate(item)
        event = Event(
            event_id=uuid4(),
            event_type="imi.work.git_state_updated",
            timestamp=now,
            version="1.0.0",
            source={"host": "stories", "type": "system", "app": "imi"},
            correlation_ids=[],
            payload=response.model_dump(mode="json"),
            arrived="local",
        )
        self.db.add(event)
        await self.db.commit()
        return response


class TraceService:
    def __init__(self, db: AsyncSession) -> None:
        self.work = WorkRepository(db)

    async def trace_ticket(self, plane_ticket_id: str) -> TraceResponse:
        items = await self.work.for_ticket(plane_ticket_id)
        return TraceResponse(
            entity=Entity(type="ticket", id=plane_ticket_id),
            chain=Chain(
                tickets=[TicketResponse.model_validate(link) for item in items for link in item.tickets],
                work_items=[WorkItemResponse.model_validate(item) for item in items],
                prs=[PrResponse.model_validate(link) for item in items for link in item.prs],
                deploys=[DeployResponse.model_validate(link) for item in items for link in item.deploys],
            ),
        )
