"""git that writes: with the user's own settings, filters, hooks, credentials and network.

The counterpart of git.py, for a repository that the user works in. No shell; names come checked
(layout.py), references whole or as commits, and whatever could begin with a dash stands behind `--`.
Failures are GitErrors.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imi.worktrees import disk, git
from imi.worktrees.git import REDIRECTS, GitError
from imi.worktrees.layout import Project, Worktree
from imi.worktrees.settings import GitSettings

REVIEWED = "refs/remotes/imi-review/"
"""Where pull requests' heads are kept: below refs/remotes, so that they count as pushed, and where no fetch
prunes them."""
PATIENCE = 60.0
OBJECT = re.compile(rb"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b")


def run(folder: Path, *arguments: str, fed: str = "", held: int | None = None) -> str:
    """What git prints, run in `folder`, `fed` its standard input. GitError with git's last words unless it
    succeeds. git holds the lock `held` too: when imi is killed it is free only after git has ended."""
    try:
        done = subprocess.run(
            ("git", *arguments),
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name not in REDIRECTS},
            input=fed.encode(errors="surrogateescape"),
            capture_output=True,
            check=False,
            pass_fds=() if held is None else (held,),
        )
    except FileNotFoundError:
        missing = "git is not installed" if folder.is_dir() else f"{folder} is not there"
        raise GitError(missing) from None
    except OSError as error:
        raise GitError(f"{folder}: {error.strerror}") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        _, fatal, reason = said.rpartition("fatal: ")
        reason = reason if fatal else said[-400:]
        raise GitError(f"git {arguments[0]}: {reason[:400] or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="surrogateescape")


@contextmanager
def lock(repository: Path, name: str) -> Iterator[int]:
    """Only one process at a time does what `name` says in this repository; it is free again when the process
    ends, however it ends. Answers the lock's descriptor. GitError after a minute of waiting."""
    folder = repository / "imi"
    try:
        folder.mkdir(exist_ok=True)
        opened = (folder / f"{name}.lock").open("w")
    except OSError as error:
        raise GitError(f"{folder}: {error.strerror}") from None
    with opened:
        if not disk.take(opened, PATIENCE):
            raise GitError(f"another imi has been at {name} for a minute")
        yield opened.fileno()


def clone(url: str, folder: Path, remote_name: str, held: int) -> None:
    """Clone into a folder that is not there yet; git holds the lock too."""
    run(folder.parent, "clone", "--quiet", f"--origin={remote_name}", "--", url, str(folder), held=held)


def fetch(project: Project, chosen: GitSettings) -> str | None:
    """Fetch as git_settings say; a remote that cannot be reached is no end: why, or None."""
    if not chosen.auto_fetch or project.remote_name is None:
        return None
    pruned = ["--prune"] if chosen.prune_on_fetch else ["--no-prune"]
    try:
        with lock(project.repository, "fetch"):
            run(project.repository, "fetch", "--quiet", *pruned, "--", project.remote_name)
    except GitError as error:
        return f"nothing was fetched: {error}"
    return None


def fetch_review(project: Project, number: int) -> str:
    """Fetch a pull or merge request's head, whatever the host calls it; its commit."""
    if project.remote_name is None:
        raise GitError("no remote to fetch the pull request from")
    heads = (f"refs/pull/{number}/head", f"refs/merge-requests/{number}/head")
    offered = run(project.repository, "ls-remote", "--", project.remote_name, *heads).splitlines()
    there = {line.split("\t")[1] for line in offered}
    head = next((each for each in heads if each in there), None)
    if head is None:
        raise GitError(f"{project.remote_name} has no pull request {number}")
    kept = f"{REVIEWED}{number}"
    run(project.repository, "fetch", "--quiet", "--no-tags", "--", project.remote_name, f"+{head}:{kept}")
    return git.run(project.repository, "rev-parse", "--verify", kept).strip()


def add(project: Project, path: Path, branch: str, start: str | None, held: int) -> None:
    """`git worktree add`: on the branch that is there, or with `start` (a commit, or a whole remote-tracking
    reference, which the branch then follows) on a new one. `held` is the folder's lock."""
    if start is None:
        run(project.repository, "worktree", "add", "--quiet", "--", str(path), branch, held=held)
        return
    tracking = "--track" if start.startswith("refs/remotes/") else "--no-track"
    new = ("worktree", "add", "--quiet", tracking, "-b", branch, "--", str(path), start)
    run(project.repository, *new, held=held)


def finish(worktree: Worktree, branch: str) -> None:
    """Complete a worktree whose making was killed, under the folder's lock: so no git is at it any more, and
    a lock of the index is a dead one's. What is in the folder stays as it is; what is missing is checked
    out."""
    folder = worktree.path
    dead = ("rev-parse", "--path-format=absolute", "--git-path", "index.lock")
    Path(run(folder, *dead).removesuffix("\n")).unlink(missing_ok=True)
    if worktree.branch is None:
        run(folder, "symbolic-ref", "HEAD", f"refs/heads/{branch}")
    run(folder, "read-tree", "HEAD")
    run(folder, "checkout-index", "-z", "--stdin", fed=run(folder, "ls-files", "-z", "--deleted"))
    run(folder, "worktree", "unlock", str(folder))


def move(project: Project, path: Path, to: Path) -> None:
    """`git worktree move`."""
    run(project.repository, "worktree", "move", "--", str(path), str(to))


def repair(folder: Path, *moved: Path) -> None:
    """`git worktree repair`, run where the repository is, with the worktrees' new folders."""
    run(folder, "worktree", "repair", "--", *(str(each) for each in moved))


def lock_worktree(project: Project, path: Path, reason: str) -> None:
    """`git worktree lock`: git does not forget the worktree while its folder is away."""
    run(project.repository, "worktree", "lock", "--reason", reason, "--", str(path))


def unlock_worktree(project: Project, path: Path) -> None:
    """`git worktree unlock`."""
    run(project.repository, "worktree", "unlock", "--", str(path))


def prune(project: Project) -> None:
    """`git worktree prune`: forget worktrees whose folders are gone."""
    run(project.repository, "worktree", "prune")


def keep(worktree: Path, own: Path, ref: str, held: int) -> None:
    """Make `ref` hold every object that the worktree's index and the other files in `own`, git's folder for
    it, name: HEAD and what it was, a rebase's commits, its autostash, what is staged or in conflict. `held`
    is the folder's lock."""
    named: set[str] = set()
    for at, folders, files in os.walk(own):
        folders[:] = [each for each in folders if each != "modules"]  # the submodules' repositories
        whole = (Path(at, each) for each in files if not each.startswith("index"))
        texts = (each.read_bytes() for each in whole if each.is_file())
        named.update(each.decode() for text in texts for each in OBJECT.findall(text))
    for line in git.run(worktree, "ls-files", "--stage", "-z").split("\0")[:-1]:
        mode, commit, _ = line.split(" ", 2)
        if mode != "160000":
            named.add(commit)
    question = ("cat-file", "--batch-check=%(objectname) %(objecttype)")
    there = git.run(worktree, *question, fed="\n".join(sorted(named))).splitlines()
    kinds = dict(line.split(" ", 1) for line in there)  # an object that is not there is "missing"
    commits = [each for each, kind in kinds.items() if kind == "commit"]
    if not _are_whole(worktree, commits):  # an old one has lost its history: held, it would break `git gc`
        commits = [each for each in commits if _are_whole(worktree, [each])]
    modes = {"blob": "100644", "tree": "040000"}
    entries = [f"{modes[kind]} {kind} {each}\t{each}\0" for each, kind in kinds.items() if kind in modes]
    tree = run(worktree, "mktree", "-z", fed="".join(entries)).strip()
    who = "iMi <imi@localhost> 0 +0000"
    lines = [f"tree {tree}", *(f"parent {each}" for each in commits), f"author {who}", f"committer {who}"]
    kept = "\n".join([*lines, "", "What a removed worktree needs\n"])
    commit = run(worktree, "hash-object", "-t", "commit", "-w", "--stdin", fed=kept).strip()
    run(worktree, "update-ref", ref, commit, held=held)


def _are_whole(worktree: Path, commits: list[str]) -> bool:
    """Whether all that these commits need is there."""
    try:
        question = ("rev-list", "--objects", "--quiet", "--stdin", "--not", "--all")
        git.run(worktree, *question, fed="\n".join(commits))
    except GitError:
        return False
    return True


def drop(repository: Path, ref: str) -> None:
    """Remove a whole reference, if it is there."""
    run(repository, "update-ref", "-d", ref)


def hold(repository: Path, ref: str, commit: str) -> None:
    """Make a whole reference, which is not there yet, name a commit."""
    run(repository, "update-ref", ref, commit, "")


def put_head(worktree: Path, branch: str | None, commit: str) -> None:
    """Make HEAD name the branch, or detach it at the commit, unless it does. Index and files stay."""
    wanted = f"refs/heads/{branch}" if branch else ""
    if git.run(worktree, "symbolic-ref", "--quiet", "HEAD", accept=(0, 1)).strip() == wanted:
        return
    if branch:
        run(worktree, "symbolic-ref", "HEAD", wanted)
    else:
        run(worktree, "update-ref", "--no-deref", "HEAD", commit)
