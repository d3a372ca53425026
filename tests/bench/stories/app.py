"""The stack that iMi's stories ask for: FastAPI, SQLAlchemy 2 on asyncpg, Pydantic, repositories and services.

As a competent developer writes it, and no more than the bench calls: the reference, not the product. Started by
the bench with BENCH_DATABASE_URL and BENCH_KEY in the environment.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from layers import ProjectService, TraceService, WorkService
from schemas import GitStateUpdate, ProjectResponse, TraceResponse, WorkItemResponse
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

engine = create_async_engine(
    os.environ["BENCH_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=10,
    max_overflow=5,
    json_serializer=lambda value: orjson.dumps(value).decode(),
    json_deserializer=orjson.loads,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


async def get_db() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


async def check_key(given: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> None:
    if not secrets.compare_digest(given.credentials, os.environ["BENCH_KEY"]):
        raise HTTPException(401, {"code": "UNAUTHENTICATED", "message": "The key is unknown"})


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


Db = Annotated[AsyncSession, Depends(get_db)]
router = APIRouter(prefix="/api/v1", dependencies=[Depends(check_key)])


@router.get("/projects/by-origin")
async def project_by_origin(db: Db, remote_origin: str) -> ProjectResponse:
    return await ProjectService(db).get_by_remote_origin(remote_origin)


@router.get("/projects/{project_id}")
async def get_project(db: Db, project_id: UUID) -> ProjectResponse:
    return await ProjectService(db).get_project(project_id)


@router.get("/work/inflight")
async def inflight(
    db: Db, project_id: UUID | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[WorkItemResponse]:
    return await WorkService(db).get_inflight(project_id, limit)


@router.get("/work/{work_item_id}")
async def get_work_item(db: Db, work_item_id: UUID) -> WorkItemResponse:
    return await WorkService(db).get_work_item(work_item_id)


@router.patch("/work/{work_item_id}/git-state")
async def update_git_state(db: Db, work_item_id: UUID, data: GitStateUpdate) -> WorkItemResponse:
    return await WorkService(db).update_git_state(work_item_id, data)


@router.get("/trace/ticket/{plane_ticket_id}")
async def trace_ticket(db: Db, plane_ticket_id: str) -> TraceResponse:
    return await TraceService(db).trace_ticket(plane_ticket_id)


app = FastAPI(title="iMi as its stories ask for it", lifespan=lifespan)
app.include_router(router)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "healthy"}
