"""Real files, real worktrees, real inotify."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imi.worktrees.exclusion import Exclusion
from imi.worktrees.watching import Change, Watcher
from tests.repositories import Git

DEADLINE = 20.0  # seconds


class Seen:
    """A watcher in a thread, and what it told."""

    def __init__(self, *roots: Path, exclude: tuple[str, ...] = ("node_modules/", "*.pyc")) -> None:
        self.warnings: list[str] = []
        self.watcher = Watcher(roots, exclude, self.warnings.append)
        self.changes: list[Change] = []
        self.told = threading.Condition()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for changes in self.watcher.changes():
            with self.told:
                self.changes += changes
                self.told.notify_all()

    def of(self, root: Path) -> list[tuple[str, str]]:
        return [(each.kind, each.path) for each in self.changes if each.worktree == root]

    def until(self, happened: Callable[[], bool]) -> None:
        with self.told:
            assert self.told.wait_for(happened, DEADLINE), self.changes

    def has(self, root: Path, kind: str, path: str) -> None:
        self.until(lambda: (kind, path) in self.of(root))

    def forget(self) -> None:
        with self.told:
            self.changes.clear()


Start = Callable[..., Seen]


@pytest.fixture
def start() -> Iterator[Start]:
    begun: list[Seen] = []

    def begin(*roots: Path, **options: tuple[str, ...]) -> Seen:
        begun.append(Seen(*roots, **options))
        return begun[-1]

    yield begin
    for each in begun:
        each.watcher.stop()
        each.thread.join(DEADLINE)
        assert not each.thread.is_alive()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "work"
    (root / "src" / "deep").mkdir(parents=True)
    (root / "src" / "a.py").write_text("a")
    return root


def unwatched() -> int:
    """How many watches this process has before a test: none, once those of the test before are let go."""
    until = time.monotonic() + DEADLINE
    while (left := watches()) and time.monotonic() < until:
        time.sleep(0.01)
    return left


def watches() -> int:
    """How many inotify watches this process has."""
    listed = 0
    for each in Path("/proc/self/fdinfo").iterdir():
        try:
            listed += sum(line.startswith("inotify ") for line in each.read_text().splitlines())
        except OSError:
            continue
    return listed


def test_files_are_told_with_their_worktree_and_path(start: Start, tmp_path: Path, folder: Path) -> None:
    other = tmp_path.resolve() / "other"
    other.mkdir()
    seen = start(folder, other)
    (folder / "src" / "a.py").write_text("b")
    (other / "new").write_text("n")
    seen.has(folder, "modified", "src/a.py")
    seen.has(other, "added", "new")
    (other / "new").unlink()
    seen.has(other, "deleted", "new")
    assert {each.worktree for each in seen.changes} == {folder, other}


def test_an_editor_that_writes_by_rename(start: Start, folder: Path) -> None:
    seen = start(folder)
    (folder / "src" / ".a.py.swp").write_text("b")
    (folder / "src" / ".a.py.swp").rename(folder / "src" / "a.py")
    seen.until(lambda: "src/a.py" in {path for _, path in seen.of(folder)})


def test_new_folders_and_what_was_written_in_them_at_once(start: Start, folder: Path) -> None:
    seen = start(folder)
    for number in range(30):
        below = folder / "made" / str(number) / "below"
        below.mkdir(parents=True)
        (below / "file").write_text("f")
    for number in range(30):
        seen.has(folder, "added", f"made/{number}/below/file")
    seen.until(lambda: not seen.watcher.tree.stale)
    (folder / "made" / "7" / "below" / "file").write_text("again")
    seen.has(folder, "modified", "made/7/below/file")


def test_a_renamed_folder_is_told_under_its_new_name(start: Start, folder: Path) -> None:
    (folder / "src" / "deep" / "b.py").write_text("b")
    seen = start(folder)
    (folder / "src").rename(folder / "lib")
    seen.has(folder, "deleted", "src")
    seen.has(folder, "added", "lib/deep/b.py")
    seen.until(lambda: not seen.watcher.tree.stale)
    seen.forget()
    (folder / "lib" / "deep" / "b.py").write_text("c")
    seen.has(folder, "modified", "lib/deep/b.py")
    assert all(path.startswith("lib/") for _, path in seen.of(folder))


def test_excluded_folders_are_not_watched_at_all(start: Start, folder: Path) -> None:
    for number in range(50):
        (folder / "node_modules" / f"p{number}" / "lib").mkdir(parents=True)
    before = unwatched()
    seen = start(folder)
    assert watches() - before == 4  # the root, src, src/deep, the bell
    for number in range(50):
        (folder / "node_modules" / f"q{number}").mkdir()
        (folder / "node_modules" / f"q{number}" / "index.js").write_text("x")
    (folder / "src" / "node_modules" / "z").mkdir(parents=True)
    (folder / "src" / "a.pyc").write_text("x")
    (folder / "last").write_text("x")
    seen.has(folder, "added", "last")
    assert seen.of(folder) == [("added", "last")]
    assert watches() - before == 4


def test_commits_and_branch_switches_of_each_worktree(start: Start, git: Git, tmp_path: Path) -> None:
    base = tmp_path.resolve()
    main = git.clone(git.origin(base / "origin.git"), base / "main")
    side = base / "side"
    git(main, "worktree", "add", "-q", "-b", "feat/side", str(side))
    seen = start(main, side)
    git(side, "commit", "-q", "--allow-empty", "-m", "nothing")
    seen.has(side, "git", "refs/heads/feat/side")
    assert all(each.worktree == side for each in seen.changes if each.path.startswith("refs/"))
    git(main, "switch", "-q", "-c", "fix/new")
    seen.has(main, "git", "HEAD")
    git(main, "commit", "-q", "--allow-empty", "-m", "in a folder of references that is new")
    seen.has(main, "git", "refs/heads/fix/new")
    (side / "staged").write_text("s")
    git(side, "add", "staged")
    seen.has(side, "git", "index")
    git(main, "push", "-q", "origin", "main:other")
    for each in (main, side):
        seen.has(each, "git", "refs/remotes/origin/other")


def test_worktrees_come_and_go(start: Start, tmp_path: Path, folder: Path) -> None:
    late = tmp_path.resolve() / "late"
    late.mkdir()
    (late / "old").write_text("o")
    seen = start(folder)
    seen.watcher.add(late)
    seen.has(late, "git", "")
    (late / "new").write_text("n")
    seen.has(late, "added", "new")
    assert ("added", "old") not in seen.of(late)
    shutil.rmtree(late)
    seen.has(late, "gone", "")
    seen.watcher.remove(folder)
    late.mkdir()
    seen.forget()
    seen.watcher.add(late)
    seen.has(late, "git", "")
    (folder / "unseen").write_text("u")
    (late / "seen").write_text("s")
    seen.has(late, "added", "seen")
    assert seen.of(folder) == []


def test_names_that_are_not_utf8(start: Start, folder: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (folder / odd).mkdir()
    (folder / odd / "before").write_text("b")
    seen = start(folder)
    (folder / odd / "before").write_text("changed")
    seen.has(folder, "modified", f"{odd}/before")
    (folder / "src" / odd).write_text("o")
    seen.until(lambda: f"src/{odd}" in {path for _, path in seen.of(folder)})
    seen.has(folder, "git", "")
    (folder / "src" / "deep" / "plain").write_text("p")
    seen.has(folder, "added", "src/deep/plain")


def test_links_are_not_followed(start: Start, tmp_path: Path, folder: Path) -> None:
    outside = tmp_path.resolve() / "outside"
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    seen = start(folder)
    (outside / "secret").write_text("s")
    (folder / "second").symlink_to(outside)
    seen.has(folder, "added", "second")
    assert seen.of(folder) == [("added", "second")]


def test_a_build_loses_no_last_state(start: Start, folder: Path) -> None:
    seen = start(folder)
    for number in range(5000):
        (folder / "src" / f"{number}.o").write_text("o")
    for number in range(5000):
        (folder / "src" / f"{number}.o").unlink()
    (folder / "src" / "done").write_text("d")
    seen.has(folder, "added", "src/done")
    last: dict[str, str] = {path: kind for kind, path in seen.of(folder)}
    assert {path for path, kind in last.items() if kind != "deleted"} <= {"src/done", "src/4999.o"}


INTERRUPTED = """
import sys
from pathlib import Path
from imi.worktrees.watching import Watcher
watcher = Watcher([Path(sys.argv[1])], [], print)
print("ready", flush=True)
try:
    for changes in watcher.changes():
        print(changes, flush=True)
except KeyboardInterrupt:
    print("interrupted", Path(watcher.bell).exists(), flush=True)
"""


def test_an_interrupt_ends_it_and_nothing_is_left(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "ready\n"
        (folder / "file").write_text("f")
        assert "'file'" in process.stdout.readline()  # from here on it waits in watchfiles
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted False\n"
    assert process.wait(DEADLINE) == 0


def test_its_own_folder_may_be_tidied_away(start: Start, folder: Path) -> None:
    seen = start(folder)
    shutil.rmtree(seen.watcher.bell)
    (folder / "file").write_text("f")
    seen.has(folder, "added", "file")
    seen.watcher.add(folder / "src")
    seen.has(folder / "src", "git", "")


LIMITED = """
import sys
from pathlib import Path
from threading import Timer
from imi.worktrees.watching import Watcher
root = Path(sys.argv[1])
watcher = Watcher([root], [], lambda text: print(text, flush=True))
wanted = {f"d{number}/file" for number in range(40)}
for path in wanted:
    (root / path).write_text("x")
Timer(60, watcher.stop).start()
for changes in watcher.changes():
    wanted -= {change.path for change in changes}
    if not wanted:
        print("all", flush=True)
        import os; os._exit(0)
"""


def _can_limit() -> bool:
    if not shutil.which("unshare"):
        return False
    tried = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", "echo 20 > /proc/sys/user/max_inotify_watches"],
        capture_output=True,
        check=False,
    )
    return tried.returncode == 0


@pytest.mark.parametrize("watches_left", [20, 0])
def test_out_of_watches_the_rest_is_polled(folder: Path, watches_left: int) -> None:
    if not _can_limit():
        pytest.skip("NOT TESTED: watching out of inotify watches; it needs user namespaces (root has them)")
    for number in range(40):
        (folder / f"d{number}").mkdir()
    limited = f'echo {watches_left} > /proc/sys/user/max_inotify_watches && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", limited, "sh", sys.executable, "-c", LIMITED, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    warned, *rest = done.stdout.splitlines()
    assert "fs.inotify.max_user_watches" in warned
    assert rest == ["all"], done.stderr


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder", "excluded"),
    [
        ("node_modules/", "a/node_modules", True, True),
        ("node_modules/", "a/node_modules", False, False),
        ("*.pyc", "a/b.pyc", False, True),
        ("/build", "build", True, True),
        ("/build", "a/build", True, False),
        ("a/*.o", "a/b/c.o", False, False),
        ("**/cache/*", "x/cache/y", False, True),
        ("doc/**", "doc/a/b", False, True),
        ("[a-c]?", "b1", False, True),
        ("[!a-c]", "b", False, False),
        ("[z-a]", "b", False, False),
        ("", "a", False, False),
        ("# note", "# note", False, False),
        ("x", ".git", True, True),
    ],
)
def test_patterns(pattern: str, path: str, is_folder: bool, excluded: bool) -> None:
    assert Exclusion([pattern]).covers(path, is_folder) is excluded


def test_the_last_pattern_decides() -> None:
    exclusion = Exclusion(["*.log", "!keep.log"])
    assert exclusion.covers("a/b.log", False)
    assert not exclusion.covers("a/keep.log", False)
