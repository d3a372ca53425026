"""`imi db`, command by command, on an embedded database and on one by URL."""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imi import cli
from imi.database import deploy
from imi.database import lanes as lanes_module
from imi.database.lanes import dropped_tables, lanes
from tests.postgres import Database, Server

Imi = Callable[..., tuple[int, str, str]]


@pytest.fixture
def imi(capfd: pytest.CaptureFixture[str]) -> Imi:
    """Runs `imi db …`: exit code, stdout, stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.run(["db", *arguments])
        said = capfd.readouterr()
        return code, said.out, said.err

    return run


class Terminal(io.StringIO):
    """Somebody who answers."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def by_url(fresh_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("IMI_DATABASE_URL", fresh_database.url)
    return fresh_database


@pytest.fixture
def embedded(data_dir: Path, second_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory whose server is kept running, so that each command only joins it."""
    monkeypatch.setenv("IMI_DATA_DIR", str(data_dir))
    yield data_dir


def test_a_new_data_directory_is_migrated_once(embedded, imi):
    assert imi("migrate") == (0, "migrated\n", "")
    assert imi("migrate") == (0, "nothing to do\n", "")
    code, out, _ = imi("migrate", "--json")
    assert (code, json.loads(out)) == (0, {"success": True, "data": {"changed": False}})


def test_status_shows_what_is_applied_and_what_is_pending(by_url, imi):
    newest = list(lanes().migrations().values())[-1].stem
    code, out, _ = imi("status")
    assert (code, f"  applied  {newest}" in out, out.endswith("\nup to date\n")) == (0, True, True)
    assert imi("rollback", "--yes") == (0, f"rolled back {newest.partition('_')[0]}\n", "")
    code, out, _ = imi("status", "--json")
    data = json.loads(out)["data"]
    assert (data["up_to_date"], data["migrations"][-1]) == (False, {"name": newest, "applied": False})
    assert [load["part"] for load in data["loads"]] == ["pgmq", "sql"]
    assert imi("migrate")[1] == "migrated\n"


def test_url_prints_the_url_and_nothing_else(by_url, imi):
    assert imi("url") == (0, f"{by_url.url}\n", "")
    assert json.loads(imi("url", "--json")[1])["data"] == {"url": by_url.url}


def test_env_is_what_dbmate_needs(by_url, imi):
    code, out, err = imi("env")
    assert (code, err) == (0, "")
    done = subprocess.run(
        ["sh", "-c", 'eval "$1" && "$2" status --exit-code', "sh", out, deploy.dbmate_program()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Pending: 0" in done.stdout) == (0, True), done.stderr
    assert (
        json.loads(imi("env", "--json")[1])["data"]["DBMATE_MIGRATIONS_TABLE"] == "imi_meta.schema_migrations"
    )


def test_psql_is_psql(by_url, imi):
    assert imi("psql", "--", "-Atc", "select 6 * 7") == (0, "42\n", "")
    code, out, err = imi("psql", "--", "-c", "selec")
    assert (code, out) == (1, "") and "syntax error" in err
    assert imi("psql", "-Atc", "select 6 * 7") == (0, "42\n", ""), "without -- too"
    assert json.loads(imi("psql", "--json", "--", "-Atc", "select 6 * 7")[1])["data"] == {"output": "42\n"}
    code, out, _ = imi("psql", "--json", "--", "-c", "selec")
    assert (code, json.loads(out)["error"]["code"]) == (1, "PSQL")


def test_reset_wants_yes_for_a_database_by_url(by_url, imi):
    imi("sample")
    code, out, err = imi("reset")
    assert (code, out) == (4, "")
    assert re.match(
        rf"error: This drops all that iMi keeps in the database {by_url.name}( on \S+)?: .*\n  say --yes", err
    )
    count = ("psql", "--", "-Atc", "select count(*) > 0 from imi.projects")
    assert imi(*count)[1] == "t\n"
    code, out, err = imi("reset", "--yes")
    assert (code, out, err.startswith("all API keys are gone")) == (0, "reset\n", True)
    assert imi(*count)[1] == "f\n"


def test_reset_asks_for_the_embedded_one(embedded, imi, monkeypatch):
    imi("sample")
    count = ("psql", "--", "-Atc", "select count(*) > 0 from imi.projects")
    for answer, left in (("n\n", "t\n"), ("", "t\n"), ("y\n", "f\n")):
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        code, _, err = imi("reset")
        assert (code == 0) == (left == "f\n")
        assert f"drops all that iMi keeps in the database imi_main in {embedded}: projects" in err
        assert imi(*count)[1] == left


def test_rollback_asks_and_names_what_is_lost(by_url, imi, monkeypatch):
    migrations = list(lanes().migrations().values())
    newest = next(each for each in migrations if "bloodbank.workflow_state" in dropped_tables(each))
    for later in reversed(migrations[migrations.index(newest) + 1 :]):
        assert ("drops no whole table" in imi("rollback")[2]) == (not dropped_tables(later))
        assert imi("rollback", "--yes")[0] == 0
    there = ("psql", "--", "-Atc", "select to_regclass('bloodbank.workflow_state') is not null")
    lost = f"Undoing {newest.stem} in the database {by_url.name}"
    code, _, err = imi("rollback")
    assert (code, lost in err, "say --yes" in err, imi(*there)[1]) == (4, True, True, "t\n")
    assert all(table in err for table in dropped_tables(newest)) and "bloodbank.workflow_state" in err
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert (imi("rollback")[0], imi(*there)[1]) == (1, "t\n")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert (imi("rollback")[0], imi(*there)[1]) == (0, "f\n")


def test_a_migration_of_another_release_is_not_rolled_back(by_url, imi, copied_lanes, monkeypatch):
    list(copied_lanes.migrations().values())[-1].unlink()
    monkeypatch.setattr(deploy, "lanes", lambda: copied_lanes)
    assert "is of another release" in imi("rollback", "--yes")[2]


def test_sample_twice_is_sample_once(by_url, imi):
    count = ("psql", "--", "-Atc", "select count(*), max(position) from bloodbank.events")
    assert imi("sample") == (0, "there is a sample of everything\n", "")
    first = imi(*count)
    assert imi("sample")[0] == 0
    assert imi(*count) == first


def test_dump_is_the_committed_schema(by_url, imi, tmp_path):
    assert imi("dump", "--output", str(tmp_path / "it.sql")) == (0, f"{tmp_path}/it.sql\n", "")
    assert (tmp_path / "it.sql").read_text() == lanes().schema_file.read_text()
    code, _, err = imi("dump", "--output", str(tmp_path / "none/it.sql"))
    assert (code, err) == (1, f"error: Cannot write {tmp_path}/none/it.sql: No such file or directory\n")


def test_backup_and_restore(by_url, imi, tmp_path, data_dir, monkeypatch):
    monkeypatch.setenv("IMI_DATA_DIR", str(data_dir))
    imi("sample")
    file = str(tmp_path / "it.dump")
    assert imi("backup", file) == (0, f"{file}\n", "")
    code, out, _ = imi("backup")
    assert (code, Path(out.strip()).parent) == (0, data_dir / "backups")
    code, _, err = imi("backup", file)
    assert (code, err) == (4, f"error: {file} is there already\n  choose another name, or say --force\n")
    assert imi("backup", file, "--force") == (0, f"{file}\n", "")
    code, _, err = imi("restore", file)
    assert (code, "replaces all that iMi keeps in" in err, "say --yes" in err) == (4, True, True)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    assert imi("restore", file)[0] == 1
    code, out, err = imi("restore", file, "--yes")
    assert (code, out, err.startswith("the API keys are the backup's")) == (0, "restored\n", True)
    imi("reset", "--yes")
    assert imi("restore", file)[:2] == (0, "restored\n"), "nothing is lost, so nobody is asked"
    (data_dir / "file").write_text("")
    monkeypatch.setenv("IMI_DATA_DIR", str(data_dir / "file"))
    assert imi("backup")[2] == f"error: Cannot make {data_dir}/file/backups: Not a directory\n"
    assert imi("restore", str(tmp_path / "none"))[0] == 2


def test_a_data_directory_of_any_name(data_dir, imi, monkeypatch):
    data_dir.chmod(0o711)
    odd = data_dir / 'it\'s a "dir" & a+b 100%'
    monkeypatch.setenv("IMI_DATA_DIR", str(odd))
    assert imi("migrate") == (0, "migrated\n", "")
    assert imi("psql", "--", "-Atc", "select current_user") == (0, "postgres\n", "")
    code, out, _ = imi("backup")
    assert (code, Path(out.strip()).parent) == (0, odd / "backups")


def test_new_numbers_the_next_migration(copied_lanes, imi, monkeypatch):
    monkeypatch.setattr(lanes_module, "lanes", lambda: copied_lanes)
    number = len(copied_lanes.migrations()) + 1
    code, out, _ = imi("new", "add_teams")
    file = copied_lanes.migrations_dir / f"{number:04}_add_teams.sql"
    assert (code, out) == (0, f"{file}\n")
    assert file.read_text().startswith("-- migrate:up\n")
    assert imi("new", "add_teams")[0] == 4
    for name in ("add-teams", "../x", "", "añadir"):
        assert imi("new", name)[0] == 2


def test_a_migration_that_nobody_has_written_is_refused(by_url, copied_lanes, imi, monkeypatch):
    for module in (lanes_module, deploy):
        monkeypatch.setattr(module, "lanes", lambda: copied_lanes)
    file = Path(imi("new", "add_teams")[1].strip())
    code, _, err = imi("migrate")
    assert (code, err.startswith(f"error: {file} is still empty: ")) == (1, True)
    file.write_text(file.read_text().replace("up\n", "up\ncreate table imi.teams (a int);\n"))
    assert imi("migrate") == (0, "migrated\n", "")


def test_an_installed_package_is_not_written_into(imi, monkeypatch, by_url, tmp_path):
    monkeypatch.setattr(lanes_module.Lanes, "packaged", True)
    before = sorted(lanes().migrations_dir.iterdir())
    assert imi("new", "add_teams")[0] == 4
    assert "Only a checkout" in imi("dump")[2]
    assert sorted(lanes().migrations_dir.iterdir()) == before
    assert imi("dump", "--output", str(tmp_path / "it.sql"))[0] == 0


def test_sqitch_writes_a_project(imi, tmp_path):
    code, out, _ = imi("sqitch", str(tmp_path / "project"))
    assert (code, out.splitlines()[-1]) == (0, "behaviour")
    code, _, err = imi("sqitch", str(tmp_path / "project"))
    assert (code, err) == (1, f"error: {tmp_path}/project is not empty\n")


def test_what_is_wrong_is_one_sentence(imi, monkeypatch, tmp_path):
    monkeypatch.setenv("IMI_DATABASE_URL", f"postgresql://x@/x?host={tmp_path}")
    code, out, err = imi("status")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: Cannot connect to the database: ")
    monkeypatch.setenv("IMI_PORT", "x")
    code, out, err = imi("migrate", "--json")
    assert (code, json.loads(out)["error"]["message"]) == (
        1,
        "IMI_PORT must be a whole number from 0 to 65535",
    )
    file = tmp_path / "env"
    file.write_text("IMI_HOST\n")
    monkeypatch.delenv("IMI_PORT")
    assert f"Cannot read {file}: line 1" in imi("status", "--env-file", str(file))[2]
