"""The ORM models, over iMi's own tables: both contenders read and write the same rows."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, ForeignKey, Uuid, func, select
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, relationship


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[UUID]: ARRAY(Uuid),
    }


class WorkItem(Base):
    __tablename__ = "work_items"
    __table_args__ = {"schema": "imi"}  # noqa: RUF012

    id: Mapped[UUID] = mapped_column(primary_key=True)
    project_id: Mapped[UUID] = mapped_column(ForeignKey("imi.projects.id"))
    branch_name: Mapped[str]
    work_type: Mapped[str]
    source_type: Mapped[str]
    source_ref: Mapped[str | None]
    owner_id: Mapped[str]
    worktree_path: Mapped[str | None]
    host: Mapped[str | None]
    has_uncommitted_changes: Mapped[bool]
    uncommitted_files_count: Mapped[int]
    ahead_of_trunk: Mapped[int]
    behind_trunk: Mapped[int]
    last_commit_hash: Mapped[str | None]
    last_commit_message: Mapped[str | None]
    last_sync_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    completion_type: Mapped[str | None]
    merge_commit_hash: Mapped[str | None]
    merged_by: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    active: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    tickets: Mapped[list[TicketLink]] = relationship(viewonly=True)
    prs: Mapped[list[PrLink]] = relationship(viewonly=True)
    deploys: Mapped[list[DeployLink]] = relationship(viewonly=True)

    @property
    def source(self) -> dict[str, str | None]:
        return {"type": self.source_type, "ref": self.source_ref}

    @property
    def status(self) -> str:
        if self.completion_type:
            return self.completion_type
        if self.has_uncommitted_changes:
            return "uncommitted"
        if self.ahead_of_trunk and self.behind_trunk:
            return "diverged"
        if self.ahead_of_trunk:
            return "ahead"
        return "behind" if self.behind_trunk else "clean"


class Project(Base):
    __tablename__ = "projects"
    __table_args__ = {"schema": "imi"}  # noqa: RUF012

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    remote_origin: Mapped[str]
    default_branch: Mapped[str]
    trunk_path: Mapped[str | None]
    description: Mapped[str | None]
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata")
    active: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    work_item_count: Mapped[int] = column_property(
        select(func.count()).where(WorkItem.project_id == id, WorkItem.active).scalar_subquery()
    )


class TicketLink(Base):
    __tablename__ = "ticket_links"
    __table_args__ = {"schema": "imi"}  # noqa: RUF012

    id: Mapped[UUID] = mapped_column(primary_key=True)
    work_item_id: Mapped[UUID] = mapped_column(ForeignKey(WorkItem.id))
    plane_ticket_id: Mapped[str]
    ticket_title: Mapped[str | None]
    ticket_url: Mapped[str | None]
    ticket_state: Mapped[str | None]


class PrLink(Base):
    __tablename__ = "pr_links"
    __table_args__ = {"schema": "imi"}  # noqa: RUF012

    id: Mapped[UUID] = mapped_column(primary_key=True)
    work_item_id: Mapped[UUID] = mapped_column(ForeignKey(WorkItem.id))
    pr_number: Mapped[int]
    pr_url: Mapped[str]
    pr_state: Mapped[str]
    pr_title: Mapped[str | None]


class DeployLink(Base):
    __tablename__ = "deploy_links"
    __table_args__ = {"schema": "imi"}  # noqa: RUF012

    id: Mapped[UUID] = mapped_column(primary_key=True)
    work_item_id: Mapped[UUID] = mapped_column(ForeignKey(WorkItem.id))
    deploy_id: Mapped[str]
    environment: Mapped[str]
    commit_hash: Mapped[str]
    deployed_at: Mapped[datetime]


class Event(Base):
    __tablename__ = "events"
    __table_args__ = {"schema": "bloodbank"}  # noqa: RUF012

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    event_type: Mapped[str]
    timestamp: Mapped[datetime]
    version: Mapped[str]
    source: Mapped[dict[str, Any]]
    correlation_ids: Mapped[list[UUID]]
    payload: Mapped[dict[str, Any]]
    arrived: Mapped[str]
