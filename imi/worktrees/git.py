"""The git command: each function is one question to it, answered with plain values.

git is run without a shell, in a repository given by path, with NUL-separated porcelain. References are whole
(`refs/heads/…`) or commits, so no name can pass for an option. Nothing here writes, and a repository's own
settings start no program of its choice (core.fsmonitor). Every failure is a GitError.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

# git sets these for its hooks: inherited, they would name another repository than the one asked about.
REDIRECTS = frozenset(
    f"GIT_{name}"
    for name in (
        "DIR",
        "WORK_TREE",
        "INDEX_FILE",
        "COMMON_DIR",
        "OBJECT_DIRECTORY",
        "ALTERNATE_OBJECT_DIRECTORIES",
        "NAMESPACE",
        "PREFIX",
    )
)
QUIET = {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0"}


class GitError(Exception):
    """git could not answer: its own reason, on one line."""


def run(folder: Path, *arguments: str, accept: tuple[int, ...] = (0,), **environment: str) -> str:
    """What git prints in `folder`; bytes that are not UTF-8 come as lone surrogates. GitError unless its exit
    code is one of `accept`. `environment` is added to git's."""
    inherited = {name: value for name, value in os.environ.items() if name not in REDIRECTS}
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder,
            env=inherited | QUIET | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        missing = "git is not installed" if folder.is_dir() else f"{folder} is not there"
        raise GitError(missing) from None
    except OSError as error:
        raise GitError(f"{folder}: {error.strerror}") from None
    if done.returncode not in accept:
        said = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
        raise GitError(f"git {arguments[0]}: {said[:400] or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="surrogateescape")


def common_dir(folder: Path) -> Path:
    """The repository that `folder` is a working tree of (or is, when bare): one for all its worktrees. It is
    never one further up: a broken clone inside another clone is broken."""
    question = ("rev-parse", "--path-format=absolute", "--git-common-dir")
    answer = run(folder, *question, GIT_CEILING_DIRECTORIES=str(folder.parent))
    return Path(answer.removesuffix("\n")).resolve()


def top_level(folder: Path) -> Path:
    """The root of the working tree that `folder` is in."""
    return Path(run(folder, "rev-parse", "--show-toplevel").removesuffix("\n"))


def remotes(repository: Path) -> list[str]:
    """The names of its remotes."""
    listed = run(
        repository, "config", "-z", "--name-only", "--get-regexp", r"^remote\..*\.url$", accept=(0, 1)
    )
    names = (key.removeprefix("remote.").removesuffix(".url") for key in listed.split("\0") if key)
    return list(dict.fromkeys(names))


def remote_url(repository: Path, remote: str) -> str:
    """Where a remote is fetched from, with the user's url.….insteadOf applied."""
    return run(repository, "remote", "get-url", "--", remote).removesuffix("\n")


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference and the commit it names. `worktree` is the folder that has the branch checked out; `target`
    is what a symbolic reference points to, else empty."""

    name: str
    target: str
    commit: str
    committer_email: str
    subject: str
    worktree: str | None


def refs(repository: Path, *patterns: str) -> list[Ref]:
    """The references below the patterns (`refs/heads`, …), by name."""
    fields = ("refname", "symref", "objectname", "committeremail", "contents:subject", "worktreepath")
    layout = "".join(f"%({field})%00" for field in fields)
    found = []
    for line in run(repository, "for-each-ref", f"--format={layout}", *patterns).split("\0\n"):
        if line:
            name, target, commit, email, subject, worktree = line.split("\0")
            found.append(Ref(name, target, commit, email.strip("<>"), subject, worktree or None))
    return found


def divergence(repository: Path, trunk: str, branch: str) -> tuple[int, int]:
    """How many commits `branch` has that `trunk` has not, and the other way round: (ahead, behind)."""
    counted = run(repository, "rev-list", "--left-right", "--count", f"{trunk}...{branch}", "--")
    behind, ahead = counted.split()
    return int(ahead), int(behind)


def uncommitted_files(worktree: Path) -> int:
    """How many files of a worktree differ from its commit: staged, changed, in conflict, or new and not
    ignored. A renamed file counts once."""
    entries = iter(run(worktree, "status", "--porcelain=v2", "-z", "--untracked-files=all").split("\0"))
    count = 0
    for entry in entries:
        if entry:
            count += 1
        if entry.startswith("2 "):
            next(entries)  # a renamed file's old path
    return count
