"""Both lanes as a Sqitch project: sqitch.conf, sqitch.plan, and deploy, revert and verify scripts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import imi
from imi.database import DatabaseError
from imi.database.deploy import pgmq_sql
from imi.database.lanes import BEHAVIOUR, Lanes, lanes

PLANNED = "2026-01-01T00:00:00Z"  # a change's identity holds its date, so it must not move


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the plan, with its three scripts."""

    name: str
    note: str
    deploy: str
    revert: str
    verify: str


def write(folder: Path, found: Lanes | None = None) -> list[str]:
    """Write the project into a new or empty folder; answers the changes in order. Raises DatabaseError."""
    made = changes(found or lanes())
    plan = ["%syntax-version=1.0.0", "%project=imi", ""]
    before = ""
    for change in made:
        plan.append(f"{change.name} {before}{PLANNED} iMi <imi@localhost> # {change.note}")
        before = f"[{change.name}] "
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DatabaseError(f"{folder} is not empty")
        (folder / "sqitch.conf").write_text("[core]\n\tengine = pg\n")
        (folder / "sqitch.plan").write_text("\n".join(plan) + "\n")
        for kind in ("deploy", "revert", "verify"):
            (folder / kind).mkdir()
            for change in made:
                (folder / kind / f"{change.name}.sql").write_text(_script(kind, change), encoding="utf-8")
    except OSError as error:
        raise DatabaseError(f"Cannot write the Sqitch project {folder}: {error.strerror}") from None
    return [change.name for change in made]


def changes(found: Lanes) -> list[Change]:
    """Answer the plan's changes: roles, each migration, pgmq, behaviour."""
    behaviour = "\n".join(file.read_text(encoding="utf-8") for file in found.manifest())
    made = [
        Change(
            "roles",
            "Groups, owner and imi_meta; roles are the cluster's and stay",
            found.roles,
            "drop schema imi_meta cascade;\n",
            _there("to_regclass", "imi_meta.ledger", "imi_meta.secrets") + _there("to_regrole", "imi_owner"),
        )
    ]
    for file in found.migrations().values():
        up, down = halves(file)
        tables = re.findall(r"^create table (\S+)", up, re.MULTILINE)
        made.append(Change(file.stem, file.stem.partition("_")[2], up, down, _there("to_regclass", *tables)))
    queues = _there("to_regclass", "pgmq.meta")
    made.append(Change("pgmq", "Queues", pgmq_sql()[0], "drop schema pgmq cascade;\n", queues))
    note = f"Functions and views of iMi {imi.__version__}"
    drop = f"drop schema {', '.join(BEHAVIOUR)} cascade;\n"
    functions = re.findall(r"^create or replace function ([\w.]+)", behaviour, re.MULTILINE)
    made.append(Change("behaviour", note, behaviour, drop, _there("to_regproc", *functions)))
    return made


def halves(file: Path) -> tuple[str, str]:
    """Cut a migration into what it does and how it is undone."""
    _, _, text = file.read_text(encoding="utf-8").partition("-- migrate:up")
    up, _, down = text.partition("-- migrate:down")
    return up.strip() + "\n", down.strip() + "\n"


def _there(function: str, *names: str) -> str:
    return "".join(f"select 1 / ({function}('{name}') is not null)::int;\n" for name in names)


def _script(kind: str, change: Change) -> str:
    role = "" if change.name == "roles" and kind == "deploy" else "set local role imi_owner;\n\n"
    end = "rollback" if kind == "verify" else "commit"
    return (
        f"-- {kind.capitalize()} imi:{change.name} to pg\n\nbegin;\n{role}{getattr(change, kind)}\n{end};\n"
    )
