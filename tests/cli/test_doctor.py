"""`imi doctor`: each check well and broken, with and without a server."""

from __future__ import annotations

import http.server
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from imi.cli import doctor
from imi.worktrees import spool
from tests.commandline import Imi, Live
from tests.live import free_port
from tests.postgres import Database
from tests.repositories import Git

CHECKS = [
    "git",
    "config",
    "server",
    "database",
    "bus",
    "key",
    "lease",
    "reports",
    "shell",
    "project",
    "inotify",
]


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("IMI_SHELL", "bash")
    monkeypatch.chdir(tmp_path)


def found(imi: Imi, *options: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """What it says, by check."""
    ran = imi("doctor", "--json", *options, code=code)
    document = json.loads(ran.out)
    assert (document["success"], ran.err) == (code == 0, "")
    assert all(list(each) == ["check", "state", "detail", "remedy"] for each in document["data"])
    assert all(each["remedy"] for each in document["data"] if each["state"] != "ok")
    return {each["check"]: each for each in document["data"]}


def test_all_is_well(imi: Imi, live: Live) -> None:
    said = found(imi)
    assert list(said) == CHECKS
    states = {name: each["state"] for name, each in said.items()}
    assert states | {"bus": "ok"} == dict.fromkeys(CHECKS, "ok")
    assert live.url in said["server"]["detail"] and "ada" in said["key"]["detail"]
    lines = imi("doctor").lines
    assert lines[0].split()[:2] == ["ok", "git"]


def test_without_a_server_and_outside_of_a_project(
    imi: Imi, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMI_API_URL", f"http://127.0.0.1:{free_port()}")
    said = found(imi, code=1)
    assert said["server"]["state"] == "failed" and "imi up" in said["server"]["remedy"]
    assert set(said) == set(CHECKS) - {"database", "bus", "key", "lease"}
    assert "in no project" in said["project"]["detail"]
    shown = imi("doctor", code=1)
    assert said["server"]["remedy"] in shown.out


def test_a_key_that_is_not_accepted(imi: Imi, live: Live) -> None:
    said = found(imi, "--api-key", "wrong", code=1)
    assert said["key"]["state"] == "failed" and said["database"]["state"] == "ok"


@pytest.mark.parametrize("url", ["nonsense", "ftp://localhost"])
def test_no_address_of_a_server(imi: Imi, live: Live, url: str) -> None:
    assert found(imi, "--api-url", url, code=1)["server"]["state"] == "failed"


class Odd(http.server.BaseHTTPRequestHandler):
    """Something else than iMi, or an iMi in trouble."""

    answer = b"<html>"
    request_id: str | None = "1"

    def do_GET(self) -> None:
        self.send_response(200)
        if self.request_id:
            self.send_header("X-Request-ID", self.request_id)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def odd() -> Any:
    with http.server.HTTPServer(("127.0.0.1", 0), Odd) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_answers_may_not_be_imi(imi: Imi, live: Live, odd: str) -> None:
    assert "is not iMi" in found(imi, "--api-url", odd, code=1)["server"]["detail"]


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"null", b"5", b""])
def test_what_answers_in_json_may_not_be_imi(
    imi: Imi, live: Live, odd: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Odd, "answer", answer)
    monkeypatch.setattr(Odd, "request_id", None)
    ran = imi("conflicts", "--api-url", odd, code=1)
    assert "is not iMi" in ran.err


def test_what_the_server_says_of_itself(
    imi: Imi, live: Live, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    health = {
        "version": "1",
        "database": "disconnected",
        "bloodbank": "disconnected",
        "followers": {"a": "late"},
    }
    monkeypatch.setattr(Odd, "answer", json.dumps(health).encode())
    ran = imi("doctor", "--json", "--api-url", odd, code=1)
    said = [(each["check"], each["state"]) for each in json.loads(ran.out)["data"]]
    assert ("database", "failed") in said
    assert said.count(("bus", "warning")) == 2


def test_settings_that_cannot_be_read(
    imi: Imi, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "XDG_CONFIG_HOME/iMi/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[git_settings]\nauto_fetsh = true\n")
    said = found(imi, code=1)
    assert said["config"]["state"] == "failed" and "auto_fetch" in said["config"]["detail"]
    file.unlink()
    monkeypatch.setenv("IMI_PORT", "none")
    assert "IMI_PORT" in found(imi, code=1)["server"]["detail"]


def test_reports_that_wait_or_were_refused(imi: Imi, live: Live) -> None:
    spool.put([spool.made("ada", "project", {})])
    (file,) = spool.waiting()
    assert "1 wait" in found(imi)["reports"]["detail"]
    assert file.exists(), "doctor changes nothing"
    aside = spool.refuse(file)
    said = found(imi)["reports"]
    assert said["state"] == "warning" and str(aside) in said["detail"]


def test_the_shell_function_is_missing(imi: Imi, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMI_SHELL")
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    said = found(imi)["shell"]
    assert said["state"] == "warning" and said["remedy"].endswith("imi shell-init fish | source")


async def test_a_lease_that_ran_out_is_named(
    imi: Imi, live: Live, database: Database, tmp_path: Path
) -> None:
    project = imi.data("projects", "register", "https://git.example.org/team/leases")["id"]
    work = {name: imi.data("work", "start", project, name)["id"] for name in ("out", "kept", "given", "done")}
    for each in work.values():
        imi("work", "claim", each)
    imi("work", "release", work["given"])
    imi("work", "complete", work["done"], "--type", "abandoned")
    assert found(imi)["lease"]["state"] == "ok"
    connection = await database.connect("superuser")
    ran_out = (
        "update imi.claims set lease_until = now() - interval '1 s', claimed_at = now() - interval '1 h'"
    )
    await connection.execute(f"{ran_out} where work_item_id = $1", work["out"])
    await connection.close()
    said = found(imi)["lease"]
    assert (
        said["state"] == "warning" and "out has run out" in said["detail"] and work["out"] in said["remedy"]
    )
    assert found(imi, "--agent", "grace")["lease"]["state"] == "ok"


def test_a_project_whose_link_is_broken(imi: Imi, live: Live, git: Git, tmp_path: Path) -> None:
    git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "shop/trunk-main")
    git(tmp_path / "shop/trunk-main", "worktree", "add", "-q", "-b", "feat/a", str(tmp_path / "shop/feat-a"))
    (tmp_path / "shop").rename(tmp_path / "moved")
    os.chdir(tmp_path / "moved/feat-a")
    said = found(imi, code=1)["project"]
    assert (said["state"], said["remedy"]) == ("failed", "imi reconcile")
    imi("reconcile")
    assert found(imi)["project"]["detail"] == str(tmp_path / "moved")


def test_too_few_inotify_watches(
    imi: Imi, live: Live, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "shop/trunk-main")
    monkeypatch.chdir(tmp_path / "shop")
    for name in ("watches", "instances"):
        (tmp_path / f"max_user_{name}").write_text("2\n")
    monkeypatch.setattr(doctor, "INOTIFY", tmp_path)
    said = found(imi)["inotify"]
    assert said["state"] == "warning" and "fs.inotify.max_user_watches=" in said["remedy"]
    monkeypatch.setattr(doctor, "INOTIFY", tmp_path / "nowhere")
    assert "inotify" not in found(imi)


def test_an_old_git(imi: Imi, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin/git"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho git version 2.38.1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{old.parent}:{os.environ['PATH']}")
    said = found(imi, code=1)["git"]
    assert said["state"] == "failed" and "2.39" in said["remedy"]
