"""What watching costs: `python -m tests.bench.watching [worktrees] [idle seconds]`.

One process watches real worktrees. It prints its processor share while nothing happens, its memory, and how
long a change takes: from watchfiles' yield to the callback, and from the write to the callback.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from imi.worktrees.batching import Activity, Batcher
from imi.worktrees.watching import Change, Watcher

WRITES = 300


class Silent:
    """A reporter that tells nobody."""

    def activities(self, batch: list[Activity]) -> None:
        return

    def git_state(self, worktree: Path) -> None:
        return


def git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True)


def worktrees(base: Path, count: int) -> list[Path]:
    """A repository of 50 files in 10 folders, and its worktrees."""
    main = base / "main"
    for number in range(50):
        folder = main / f"package{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module{number}.py").write_text("pass\n")
    git(main, "init", "-q", "-b", "main")
    git(main, "add", ".")
    git(main, "commit", "-q", "-m", "start")
    for number in range(1, count):
        git(main, "worktree", "add", "-q", "-b", f"feat/{number}", str(base / f"feat-{number}"))
    return [main, *(base / f"feat-{number}" for number in range(1, count))]


def memory() -> tuple[float, float]:
    """Resident now and at most, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1000, int(fields["VmHWM"].split()[0]) / 1000


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.95)] * 1000


def main() -> None:
    count, idle = (int(each) for each in (*sys.argv[1:], "100", "30")[:2]) if sys.argv[1:] else (100, 30)
    with tempfile.TemporaryDirectory() as made, Batcher(Silent()) as batcher:
        roots = worktrees(Path(made).resolve(), count)
        began = time.perf_counter()
        watcher = Watcher(roots, ["node_modules/"], print)
        folders = len(watcher.tree.folders) + len(watcher.tree.git)
        print(f"{len(roots)} worktrees, {folders} folders, ready after {time.perf_counter() - began:.3f} s")
        yielded: list[float] = []
        judge, moments = watcher.tree.judge, [0.0]

        def timed(raw: set[tuple[int, str]]) -> list[Change]:
            moments[0] = time.perf_counter()
            return judge(raw)

        watcher.tree.judge = timed  # type: ignore[method-assign]
        arrived: dict[str, float] = {}
        told = threading.Condition()

        def follow() -> None:
            for changes in watcher.changes():
                batcher.put(changes)
                now = time.perf_counter()
                yielded.append(now - moments[0])
                with told:
                    arrived.update({str(each.worktree / each.path): now for each in changes})
                    told.notify()

        thread = threading.Thread(target=follow)
        thread.start()
        before, start = time.process_time(), time.perf_counter()
        time.sleep(idle)
        share = (time.process_time() - before) / (time.perf_counter() - start)
        print(f"idle for {idle} s: {share:.2%} of one processor; {memory()[0]:.0f} MB")
        written = []
        for number in range(WRITES):
            path = roots[number % len(roots)] / "package1" / f"new{number}"
            wrote = time.perf_counter()
            path.write_text("x")
            with told:
                assert told.wait_for(lambda path=path: str(path) in arrived, 10)  # type: ignore[misc]
            written.append(arrived[str(path)] - wrote)
        print(f"yield to callback p95 {p95(yielded):.2f} ms, write to callback p95 {p95(written):.1f} ms")
        burst = time.process_time()
        for number in range(20_000):
            (roots[0] / "package2" / f"built{number}").write_text("x")
        last = roots[0] / "package2" / "last"
        last.write_text("x")
        with told:
            assert told.wait_for(lambda: str(last) in arrived, 60)
        print(f"20,000 files written: {time.process_time() - burst:.2f} s of processor, writing included")
        print(f"memory now {memory()[0]:.0f} MB, at most {memory()[1]:.0f} MB")
        watcher.stop()
        thread.join()


if __name__ == "__main__":
    main()
