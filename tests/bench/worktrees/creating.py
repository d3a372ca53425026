"""`imi feat` beside `git worktree add` of the same tree: a folder, a branch, and the server knows of both."""

from __future__ import annotations

from statistics import median

from tests.bench.rows import Figure
from tests.bench.worktrees.stage import Stage

TIMES = 6
FACTOR, EXTRA = 1.3, 0.060


async def created(stage: Stage) -> list[Figure]:
    """Without a fetch: the worktree alone."""
    stage.configure("[git_settings]\nauto_fetch = false\n")
    return [paired(stage, files, is_fetching=False) for files in sizes(stage)]


async def fetched(stage: Stage) -> list[Figure]:
    """With auto_fetch, beside a `git fetch` and the `git worktree add`; the remote is a path of this machine."""
    stage.configure("")
    return [paired(stage, files, is_fetching=True) for files in sizes(stage)]


def sizes(stage: Stage) -> list[int]:
    return [1_000, 10_000, 50_000] if stage.full else [1_000, 10_000]


def paired(stage: Stage, files: int, is_fetching: bool) -> Figure:
    """git, `imi version` and `imi feat` take turns at being first; a first round does not count. Each worktree
    goes before the next is made, and its going is not measured."""
    root = stage.project(files)
    trunk = root / "trunk-main"
    beside: list[float] = []
    all_git, all_start, all_imi = [], [], []
    for turn in range(stage.rounds + 1):
        git, fetch, start, imi = [], [], [], []

        def plainly() -> None:
            fetch.append(stage.git(trunk, "fetch", "-q", "--prune", "origin") if is_fetching else 0)  # noqa: B023
            git.append(stage.git(trunk, "worktree", "add", "-q", "-b", "feat/plain", str(root / "plain")))  # noqa: B023
            stage.forget(trunk, root / "plain", "feat/plain")

        def own() -> None:
            start.append(stage.imi(trunk, "version"))  # noqa: B023
            imi.append(stage.imi(trunk, "feat", "own"))  # noqa: B023
            stage.forget(trunk, root / "feat-own", "feat/own")

        for number in range(TIMES):
            for work in (plainly, own) if number % 2 else (own, plainly):
                work()
        if turn:
            allowed = median(fetch) + FACTOR * median(git) + EXTRA + median(start)
            beside.append(median(imi) / allowed)
            all_git += [each + more for each, more in zip(git, fetch, strict=True)]
            all_start, all_imi = all_start + start, all_imi + imi
    took = ", ".join(f"{1000 * median(each):.0f}" for each in (all_imi, all_git, all_start))
    plain = "`git fetch` + 1.3 × `git worktree add`" if is_fetching else "1.3 × `git worktree add`"
    what = f"`imi feat`, {files:,} files: × ({plain} + 60 ms + `imi version`); medians {took} ms"
    return Figure(what, "≤", 1, beside)
