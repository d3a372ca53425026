"""What all commands have in common: help, documents, exit codes, which server and key, what reaches a terminal."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from imi import __version__, cli
from imi.cli import client, render
from imi.cli.arguments import Relation
from tests.commandline import Imi

Handler = Callable[[httpx.Request], httpx.Response]
HOSTILE = "\x1b]0;owned\x07\x1b[31m[red]x[/red]\u202e\u009b2J\x85"


def leaves() -> Iterator[tuple[str, Any]]:
    """Every command as `imi …` and the command itself."""
    root = cli.Lazy()
    for name in root.modules:
        command = root.load(name)
        for sub, leaf in getattr(command, "commands", {"": command}).items():
            yield f"{name} {sub}".strip(), leaf


SIGNED = {"X-Request-ID": "1"}
"""What all that iMi answers has."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[httpx.Request]:
    """Every request that leaves is kept here, and answered with an empty page."""
    sent: list[httpx.Request] = []

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, headers=SIGNED, json={"items": [], "total": 0, "offset": 0, "limit": 100})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    monkeypatch.setenv("IMI_DATA_DIR", str(tmp_path))
    (tmp_path / "admin.key").write_text("from-file\n")
    return sent


def answer(monkeypatch: pytest.MonkeyPatch, status: int, content: bytes) -> None:
    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=SIGNED, content=content)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)


class TestHelp:
    @pytest.mark.parametrize(
        ("path", "leaf"), list(leaves()), ids=lambda each: each if isinstance(each, str) else ""
    )
    def test_every_command_takes_json_and_shows_an_example(self, imi: Imi, path: str, leaf: Any) -> None:
        assert "--json" in {option for param in leaf.params for option in param.opts}
        assert leaf.help
        shown = imi(*path.split(), "--help").out
        assert "Example: " in shown
        assert f"imi {path}" in leaf.epilog
        assert imi(*path.split(), "-h" if path != "db psql" else "--help").out == shown
        if path != "db psql":  # whose options are psql's
            refused = imi.error(2, *path.split(), "--no-such-option")
            assert refused["code"] == "USAGE"
            assert "--no-such-option" in str(refused["message"])

    @pytest.mark.parametrize(
        ("command", "values"),
        [
            ("trace", "ticket pr deploy branch commit work"),
            ("components relate a", " ".join(get_args(Relation))),
        ],
    )
    def test_what_an_argument_may_be_is_said(self, imi: Imi, command: str, values: str) -> None:
        ran = imi(*command.split(), code=2)
        assert f"Choose from: {', '.join(values.split())}\n  see imi " in ran.err
        shown = imi(*command.split()[:2], "--help").out
        assert all(value in shown for value in values.split())

    def test_the_list_of_commands_imports_none_of_them(self) -> None:
        program = (
            "import sys; from imi import cli; cli.run(['--help']); "
            "print(sorted(m for m in sys.modules if m.startswith(('imi.', 'rich', 'httpx', 'asyncpg', 'aiohttp'))))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "['imi.cli', 'imi.cli.command', 'imi.cli.outcome']"
        for name in cli.Lazy().modules:
            assert f"\n  {name} " in done.stdout

    def test_without_a_command_the_help_is_shown(self, imi: Imi) -> None:
        assert imi(code=2).err.startswith("Usage: imi")
        assert imi("work", code=2).err.startswith("Usage: imi work")
        assert imi.error(2)["message"] is not None

    def test_a_wrong_name_names_the_right_one(self, imi: Imi) -> None:
        ran = imi("proyects", code=2)
        assert ran.err == "error: No such command 'proyects'. Did you mean 'projects'?\n  see imi --help\n"

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion(self, shell: str) -> None:
        def ask(**variables: str) -> str:
            environment = {**os.environ, **variables}
            command = [sys.executable, "-m", "imi"]
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            ).stdout

        assert "_IMI_COMPLETE=complete_" + shell in ask(_IMI_COMPLETE=f"source_{shell}")
        words = {"COMP_WORDS": "imi work cl", "COMP_CWORD": "2", "_TYPER_COMPLETE_ARGS": "imi work cl"}
        found = ask(_IMI_COMPLETE=f"complete_{shell}", _TYPER_COMPLETE_FISH_ACTION="get-args", **words)
        assert "claim" in found
        assert "list" not in found

    def test_version(self, imi: Imi) -> None:
        assert imi("version").out == imi("--version").out == f"imi {__version__}\n"
        assert imi.data("version") == {"version": __version__}


class TestRefusals:
    @pytest.mark.parametrize("url", ["http://ada:secret@127.0.0.1:1", "ftp://ada:secret@a"])
    def test_a_password_in_a_url_is_not_shown(self, imi: Imi, url: str) -> None:
        ran = imi("stats", "--api-url", url, code=5 if url.startswith("http") else 2)
        assert "ada" not in ran.err and "secret" not in ran.err and "***@" in ran.err

    def test_unreachable(self, imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("IMI_API_URL", url)
        ran = imi("stats", code=5)
        assert ran.err.startswith(f"error: the server at {url} cannot be reached: ")
        assert "imi up" in ran.err.splitlines()[1]
        assert ran.out == ""
        assert imi.error(5, "projects", "list", "--all")["code"] == "UNREACHABLE"

    def test_no_answer_in_time(self, imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
        def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            raise httpx.ReadTimeout("late", request=request)

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
        assert "does not answer in time" in str(imi.error(5, "stats")["message"])

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, 2),
            (401, 4),
            (403, 4),
            (404, 3),
            (409, 4),
            (410, 4),
            (413, 2),
            (415, 2),
            (429, 4),
            (500, 1),
            (503, 5),
        ],
    )
    def test_each_status_has_its_exit_code(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch, status: int, code: int
    ) -> None:
        detail = {"code": "WHY", "message": "No", "params": {"id": 7, "errors": None}}
        answer(monkeypatch, status, json.dumps({"detail": detail}).encode())
        assert imi("stats", code=code).err.startswith("error: No (id: 7; errors: null)\n")
        assert imi.error(code, "stats")["code"] == "WHY"

    def test_every_place_of_a_bad_request_is_named(self, imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
        errors = [{"path": "name", "message": "is too long"}, {"path": "", "message": "is no object"}]
        detail = {
            "code": "VALIDATION_ERROR",
            "message": "bad",
            "params": {"errors": errors},
            "hint": "do better",
        }
        answer(monkeypatch, 400, json.dumps({"detail": detail}).encode())
        ran = imi("stats", code=2)
        assert ran.err == "error: bad (name: is too long; body: is no object)\n  do better\n"

    @pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"detail": "x"}', b"\xff"])
    @pytest.mark.parametrize("status", [404, 502])
    def test_what_is_not_imi_is_said(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch, status: int, content: bytes
    ) -> None:
        answer(monkeypatch, status, content)
        assert imi.error(1, "stats")["code"] == "NOT_IMI"

    def test_a_fault_of_ours_is_a_sentence_and_with_debug_a_traceback(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*arguments: Any, **options: Any) -> Any:
            raise RuntimeError("broken")

        monkeypatch.setattr(client, "connect", broken)
        assert imi("stats", code=1).err == "error: RuntimeError: broken\n  see where it broke with --debug\n"
        assert imi.error(1, "stats")["code"] == "INTERNAL"
        with pytest.raises(RuntimeError):
            cli.run(["stats", "--debug"])

    def test_a_setting_that_cannot_be_used(self, imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IMI_PORT", "many")
        assert imi.error(1, "stats")["code"] == "CONFIG"

    def test_a_setting_that_is_none_does_not_spoil_the_document(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch, answers: list[httpx.Request]
    ) -> None:
        monkeypatch.setenv("IMI_API_ULR", "x")
        assert imi.data("projects", "list")["total"] == 0

    @pytest.mark.parametrize(
        "arguments",
        [
            ("--limit", "0"),
            ("--limit", "x"),
            ("--metadata", "[1]"),
            ("--metadata", "{"),
            ("--metadata", '{"a": NaN}'),
            ("--metadata", '{"a": 1e999}'),
            ("--metadata", '{"a":' * 100_000 + "1" + "}" * 100_000),
            ("extra",),
        ],
        ids=lambda arguments: " ".join(arguments)[:30],
    )
    def test_usage(self, imi: Imi, arguments: tuple[str, ...]) -> None:
        refused = imi.error(2, "projects", "list", *arguments)
        assert refused["code"] == "USAGE"
        assert refused["hint"] == "see imi projects list --help"

    def test_what_would_be_another_path_is_refused(self, imi: Imi, answers: list[httpx.Request]) -> None:
        assert imi.error(2, "work", "claim", "..")["message"] == "'..' names nothing"
        imi("keys", "revoke", "../projects/x?y#z")
        assert answers[-1].url.raw_path == b"/api/v1/api-keys/..%2Fprojects%2Fx%3Fy%23z"

    @pytest.mark.parametrize(
        "command",
        [
            ("trace", "branch", "\udcff"),
            ("projects", "get", "\udcff"),
            ("work", "claim", "\udcff"),
            ("stats", "--api-url", "http://localhost:1/\udcff"),
            ("stats", "--api-url", "http://\udcff"),
        ],
        ids=ascii,
    )
    def test_what_no_url_can_say_is_refused(
        self, imi: Imi, answers: list[httpx.Request], command: tuple[str, ...]
    ) -> None:
        refused = imi.error(2, *command)
        assert refused["code"] == "USAGE"
        assert "\udcff" in str(refused["message"])
        assert answers == []

    def test_a_reader_that_has_seen_enough(self) -> None:
        done = subprocess.run(
            f"{sys.executable} -m imi --help | head -c 1",
            shell=True,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("U", "")

    @pytest.mark.parametrize("buffered", ["", "1"])
    @pytest.mark.parametrize("option", ["", "--json"])
    @pytest.mark.parametrize("closed", [">/dev/full", ">&-"])
    def test_an_answer_that_nobody_can_take_is_a_sentence(
        self, closed: str, option: str, buffered: str
    ) -> None:
        command = f"PYTHONUNBUFFERED={buffered} {sys.executable} -m imi version {option} {closed}"
        done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1 and done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr and "ignored" not in done.stderr

    def test_ctrl_c_ends_it_without_a_word(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            command = [sys.executable, "-m", "imi", "stats", "--api-url", url]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                connection, _ = silent.accept()  # it waits for the answer now
                with connection:
                    process.send_signal(signal.SIGINT)
                    printed = process.communicate()
        assert (process.returncode, printed) == (130, (b"", b""))


class TestConnection:
    """Flag before environment before file; and a key goes to nobody it was not meant for."""

    def key(self, request: httpx.Request) -> str | None:
        return request.headers.get("Authorization")

    def test_the_key_of_the_data_directory_is_for_this_machine(
        self, imi: Imi, answers: list[httpx.Request]
    ) -> None:
        for url in ("http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1"):
            imi("projects", "list", "--api-url", url)
            assert self.key(answers[-1]) == "Bearer from-file"
        for url in ("http://imi.example.org", "http://127.0.0.1.example.org", "http://10.0.0.1:8400"):
            imi("projects", "list", "--api-url", url)
            assert self.key(answers[-1]) is None

    def test_flag_then_environment_then_file(
        self, imi: Imi, answers: list[httpx.Request], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("IMI_API_KEY", "from-environment")
        monkeypatch.setenv("IMI_API_URL", "http://imi.example.org")
        monkeypatch.setenv("IMI_AGENT", "env-agent")
        imi("projects", "list")
        assert (self.key(answers[-1]), answers[-1].url.host) == ("Bearer from-environment", "imi.example.org")
        assert answers[-1].headers["X-Agent-Id"] == "env-agent"
        imi("projects", "list", "--api-key", "k", "--api-url", "https://other.example.org/", "--agent", "me")
        assert (self.key(answers[-1]), str(answers[-1].url)) == (
            "Bearer k",
            "https://other.example.org/api/v1/projects?limit=100&offset=0&active=true",
        )
        assert answers[-1].headers["X-Agent-Id"] == "me"

    def test_who_acts_is_user_and_host(self, imi: Imi, answers: list[httpx.Request]) -> None:
        imi("projects", "list")
        assert answers[-1].headers["X-Agent-Id"] == f"{getpass.getuser()}@{socket.gethostname()}"

    def test_a_user_without_a_name_acts_too(
        self, imi: Imi, answers: list[httpx.Request], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nobody() -> str:
            raise KeyError("getpwuid(): uid not found")

        monkeypatch.setattr(getpass, "getuser", nobody)
        imi("projects", "list")
        assert answers[-1].headers["X-Agent-Id"].startswith(f"uid-{os.getuid()}@")

    def test_no_key_is_no_header(self, imi: Imi, answers: list[httpx.Request], tmp_path: Path) -> None:
        (tmp_path / "admin.key").unlink()
        imi("projects", "list")
        assert "Authorization" not in answers[-1].headers

    @pytest.mark.parametrize(
        ("url", "looked"),
        [
            ("http://localhost:1", "there is no {}/admin.key that you may read: set it, or IMI_DATA_DIR"),
            ("http://imi.example.org", "{}/admin.key is for a server on this machine only: set it"),
        ],
    )
    def test_without_a_key_it_says_where_one_was_looked_for(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, looked: str
    ) -> None:
        detail = {"code": "UNAUTHENTICATED", "message": "No", "params": {}, "hint": "the server's"}
        answer(monkeypatch, 401, json.dumps({"detail": detail}).encode())
        monkeypatch.setenv("IMI_DATA_DIR", str(tmp_path))
        ran = imi("stats", "--api-url", url, code=4)
        assert f"IMI_API_KEY is not set, and {looked.format(tmp_path)}" in ran.err
        ran = imi("stats", "--api-url", url, "--api-key", "wrong", code=4)
        assert ran.err == "error: No\n  the server's\n"

    def test_nobody_runs_where_one_was_looked_for(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def refuse(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refuse)
        monkeypatch.setenv("IMI_DATA_DIR", str(tmp_path))
        said = f"no `imi up` runs in {tmp_path}"
        assert said in imi("stats", code=5).err
        assert said not in imi("stats", "--api-url", "http://localhost:8400", code=5).err

    def test_a_proxy_does_not_see_this_machines_key(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch, answers: list[httpx.Request]
    ) -> None:
        made: list[Any] = []
        monkeypatch.setenv("HTTP_PROXY", "http://proxy.example.org:3128")
        monkeypatch.setattr(
            httpx.Client, "_init_proxy_transport", lambda self, proxy, *rest, **more: made.append(proxy)
        )
        imi("projects", "list")
        assert made == []

    @pytest.mark.parametrize("url", ["localhost:8400", "ftp://x", "http://", "http://[::1", "http://x:99999"])
    def test_a_url_of_no_server(self, imi: Imi, url: str) -> None:
        assert imi.error(2, "stats", "--api-url", url)["code"] == "USAGE"

    @pytest.mark.parametrize("agent", ["a\nX-API-Key: k", "\x1b[31m", "Ädä"])
    def test_a_name_that_is_no_header(self, imi: Imi, agent: str) -> None:
        assert imi.error(2, "stats", "--agent", agent)["code"] == "USAGE"


def project(**fields: Any) -> dict[str, Any]:
    return {
        "id": "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10",
        "name": HOSTILE,
        "remote_origin": f"ssh://git@git.example.org/{'very-long/' * 12}{HOSTILE}",
        "active": True,
        "work_item_count": 3,
        "inflight_count": 1,
        "metadata": {HOSTILE: HOSTILE},
    } | fields


class TestTerminal:
    @pytest.mark.parametrize("command", [("list",), ("get", "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10")])
    def test_other_peoples_text_steers_nothing(
        self, imi: Imi, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
    ) -> None:
        document = (
            project() if command[0] == "get" else {"items": [project()], "total": 1, "offset": 0, "limit": 1}
        )
        answer(monkeypatch, 200, json.dumps(document).encode())
        seen = imi("projects", *command).out
        assert r"\x1b]0;owned\x07\x1b[31m[red]x[/red]\u202e\x9b2J\x85" in seen
        assert all(c.isprintable() or c == "\n" for c in seen)
        machine = imi("projects", *command, "--json").out
        assert machine.isascii()
        assert all(c.isprintable() for c in machine.removesuffix("\n"))

    def test_nor_does_an_error(self, imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
        detail = {"code": "X", "message": HOSTILE, "params": {"who": HOSTILE}, "hint": HOSTILE}
        answer(monkeypatch, 409, json.dumps({"detail": detail}).encode())
        seen = imi("stats", code=4).err
        assert all(c.isprintable() or c == "\n" for c in seen)
        refused = imi("stats", "--format", "\x1b[31m", code=2).err
        assert all(c.isprintable() or c == "\n" for c in refused)

    def test_in_a_pipe_each_row_is_one_whole_line(self, imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
        page = {"items": [project()], "total": 1, "offset": 0, "limit": 1}
        answer(monkeypatch, 200, json.dumps(page).encode())
        header, row = imi("projects", "list").lines
        assert header.split() == ["name", "id", "remote_origin", "active", "work", "in", "flight"]
        assert render.plain(project()["remote_origin"]) in row

    @pytest.mark.parametrize("width", [80, 120])
    @pytest.mark.parametrize("command", ["projects list", "work list", "work inflight", "components list"])
    def test_a_table_fits_its_terminal(self, tmp_path: Path, width: int, command: str) -> None:
        row = project(
            branch_name="feat/" + "x" * 90,
            owner_id="somebody.with.a.long.name@example.org",
            status="uncommitted",
            ahead_of_trunk=10,
            behind_trunk=20,
            uncommitted_files_count=3,
            work_type="experiment",
            age_seconds=90_000,
            observed_age_seconds=None,
            kind="submodule",
            path="some/where/" * 9,
            enabled=True,
            project_id="01980c1e-0000-7000-8000-000000000000",
            parent_project_id="01980c1e-0000-7000-8000-000000000000",
            claim={"agent_id": "an-agent-with-a-long-name"},
            name="a-component-or-project-with-a-long-name",
        )
        page = json.dumps({"items": [row], "total": 1, "offset": 0, "limit": 1})
        project_answer = json.dumps(project(id=row["project_id"], name="the-projects-name"))
        program = (
            "import httpx, sys; from imi import cli\n"
            f"def handle(_, request):\n"
            f"    one = request.url.path.endswith({row['project_id']!r})\n"
            f"    return httpx.Response(200, headers={SIGNED!r}, content={project_answer!r} if one else {page!r})\n"
            "httpx.HTTPTransport.handle_request = handle\n"
            f"sys.exit(cli.run({command.split()!r}))"
        )
        header, drawn, *rest = on_terminal(width, [sys.executable, "-c", program])
        assert max(len(line) for line in (header, drawn)) <= width
        assert "…" in drawn, "what is too long says so"
        if "id" in header.split():
            assert row["id"] in drawn, "an id is whole"
        else:
            assert width == 80 and re.match("on a wider terminal also: .*id", rest[0])
        if "work" in command:
            assert {"branch", "project", "status", "commits", "files", "owner", "holder"} <= set(
                header.split()
            )
            assert all(part in drawn for part in ("feat", "the-", "uncommitted", "+10 -20", "some", "an-"))

    def test_what_lasts_shows_how_far_it_is(self) -> None:
        program = (
            "from imi.cli.render import Bar\n"
            "with Bar(enabled=True) as bar:\n"
            "    bar._appear()\n"  # what its timer does after a second
            f"    bar.show({HOSTILE!r}, 3, 9)\n"
            "    bar.progress.refresh()\n"
            "print('done')"
        )
        drawn = "\n".join(on_terminal(80, [sys.executable, "-c", program]))
        assert "3/9" in drawn
        assert r"\x1b]0;owned\x07" in drawn
        assert "\x1b]0" not in drawn
        assert drawn.endswith("done")

    @pytest.mark.parametrize("enabled", [True, False])
    def test_nothing_shows_in_a_pipe(self, capsys: pytest.CaptureFixture[str], enabled: bool) -> None:
        with render.Bar(enabled) as bar:
            bar._appear()
            bar.show("reading", 1, 2)
        assert (bar.progress, capsys.readouterr().err) == (None, "")


def on_terminal(width: int, command: list[str]) -> list[str]:
    """The lines that a command draws on a terminal, without their colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(width)}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            drawn += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0, drawn
    text = drawn.decode()
    for code in ("\x1b[1m", "\x1b[0m"):
        text = text.replace(code, "")
    return text.splitlines()


class TestPlain:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "-"),
            (True, "yes"),
            (7, "7"),
            ("ünï¢ödé 漢字", "ünï¢ödé 漢字"),
            ("a\tb\r\n", r"a\tb\r\n"),
            ("\udcff", r"\udcff"),
            ({"a": ["\x1b"]}, r'{"a": ["\u001b"]}'),
        ],
    )
    def test_values(self, value: Any, text: str) -> None:
        assert render.plain(value) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(None, "never"), (0.2, "0s"), (61, "1m"), (7200, "2h"), (90_000, "1d")]
    )
    def test_ages(self, seconds: float | None, text: str) -> None:
        assert render.age(seconds) == text
