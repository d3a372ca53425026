"""The Pydantic schemas of requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Shown(BaseModel):
    model_config = ConfigDict(from_attributes=True, populate_by_name=True)


class ProjectResponse(Shown):
    id: UUID
    name: str
    remote_origin: str
    default_branch: str
    trunk_path: str | None
    description: str | None
    metadata: dict[str, Any] = Field(validation_alias="metadata_")
    active: bool
    created_at: datetime
    updated_at: datetime
    work_item_count: int


class Source(BaseModel):
    type: str
    ref: str | None


class WorkItemResponse(Shown):
    id: UUID
    project_id: UUID
    branch_name: str
    work_type: str
    source: Source
    owner_id: str
    worktree_path: str | None
    host: str | None
    status: str
    has_uncommitted_changes: bool
    uncommitted_files_count: int
    ahead_of_trunk: int
    behind_trunk: int
    last_commit_hash: str | None
    last_commit_message: str | None
    last_sync_at: datetime | None
    completed_at: datetime | None
    completion_type: str | None
    merge_commit_hash: str | None
    merged_by: str | None
    metadata: dict[str, Any] = Field(validation_alias="metadata_")
    active: bool
    created_at: datetime
    updated_at: datetime


class GitStateUpdate(BaseModel):
    has_uncommitted_changes: bool | None = None
    uncommitted_files_count: int | None = Field(default=None, ge=0)
    ahead_of_trunk: int | None = Field(default=None, ge=0)
    behind_trunk: int | None = Field(default=None, ge=0)
    last_commit_hash: str | None = None
    last_commit_message: str | None = None


class TicketResponse(Shown):
    id: UUID
    work_item_id: UUID
    plane_ticket_id: str
    ticket_title: str | None
    ticket_url: str | None
    ticket_state: str | None


class PrResponse(Shown):
    id: UUID
    work_item_id: UUID
    pr_number: int
    pr_url: str
    pr_state: str
    pr_title: str | None


class DeployResponse(Shown):
    id: UUID
    work_item_id: UUID
    deploy_id: str
    environment: str
    commit_hash: str
    deployed_at: datetime


class Entity(BaseModel):
    type: str
    id: str


class Chain(BaseModel):
    tickets: list[TicketResponse]
    work_items: list[WorkItemResponse]
    prs: list[PrResponse]
    deploys: list[DeployResponse]


class TraceResponse(BaseModel):
    entity: Entity
    chain: Chain
