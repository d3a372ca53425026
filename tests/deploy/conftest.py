"""Databases to be deployed to, lanes to be changed, and what a database looks like."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imi.database import embedded
from imi.database.lanes import Lanes, lanes
from tests.postgres import Server


@pytest.fixture
def copied_lanes(tmp_path: Path) -> Lanes:
    """Both lanes in a folder where a test may change them."""
    found = lanes()
    shutil.copytree(found.migrations_dir.parent, tmp_path / "db")
    shutil.copytree(found.sql_dir, tmp_path / "sql")
    return dataclasses.replace(found, migrations_dir=tmp_path / "db/migrations", sql_dir=tmp_path / "sql")


@pytest.fixture
def small_lanes(copied_lanes: Lanes) -> Lanes:
    """The state lane as it is, and a behaviour lane of one file, `toys.sql`, that a test writes."""
    for file in copied_lanes.sql_dir.iterdir():
        file.unlink()
    (copied_lanes.sql_dir / "load.sql").write_text("\\ir toys.sql\n\\ir grants.sql\n")
    (copied_lanes.sql_dir / "grants.sql").write_text("grant usage on schema api to imi_api;\n")
    return copied_lanes


@pytest.fixture
def second_server(data_dir: Path) -> Iterator[Server]:
    """Another server, whose roles no other test has made."""
    cluster, users = embedded.join(data_dir)
    yield Server(Server(embedded.url(cluster)).url_of("postgres"))
    embedded.leave(cluster, users)
