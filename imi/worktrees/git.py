"""The git command: each function is one question to it, answered with plain values.

git is run without a shell, in a repository given by path, with NUL-separated porcelain. References are whole
(`refs/heads/…`) or commits, so no name can pass for an option. Every failure is a GitError.

Nothing here writes, and nothing here starts a program that a repository names or sends git over any network:
a clone is read before anybody has looked at it. File monitor and hooks are off and every protocol is refused,
so a missing object is an error, never a fetch. Filters, which git has no switch for, are blanked one by one
(`status`). A submodule is a repository of its own, with settings of its own: its work tree is read
only where it is itself asked about.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
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
ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "IMI_BLANK": "",
}
# safe.bareRepository: here git never searches for one, so it need not refuse one. merge.renormalize would run
# filters.
SETTINGS = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "safe.bareRepository=all",
    "merge.renormalize=false",
)
FILTERS = r"^filter\..*\.(clean|smudge|process|required)$"
LATE = 2**32 - 1


class GitError(Exception):
    """git could not answer: its own reason, on one line."""


def run(
    folder: Path,
    *arguments: str,
    accept: tuple[int, ...] = (0,),
    fed: str = "",
    blanked: Sequence[str] = (),
    **environment: str,
) -> str:
    """What git prints about the work tree or repository that is `folder`, never one further up; bytes that
    are not UTF-8 come as lone surrogates. GitError unless its exit code is one of `accept`. `fed` is its
    standard input, the settings `blanked` are empty, and `environment` is added to git's."""
    inherited = {name: value for name, value in os.environ.items() if name not in REDIRECTS}
    ceiling = {"GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)}
    settings = [part for setting in SETTINGS for part in ("-c", setting)]
    # unlike -c, --config-env takes a name with an equals sign in it
    settings += [f"--config-env={name}=IMI_BLANK" for name in blanked]
    try:
        done = subprocess.run(
            [part.encode(errors="surrogateescape") for part in ("git", *settings, *arguments)],
            cwd=folder,
            env=inherited | ENVIRONMENT | ceiling | environment,
            input=fed.encode(errors="surrogateescape"),
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
    """The repository that `folder` is a working tree of (or is, when bare): one for all its worktrees."""
    answer = run(folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
    return Path(answer.removesuffix("\n")).resolve()


def is_work_tree(folder: Path) -> bool:
    """Whether the folder is the root of a working tree, as far as this user can see."""
    try:
        return (folder / ".git").exists()
    except OSError:
        return False


def top_level(folder: Path) -> Path:
    """The root of the working tree that `folder` is in. A bare repository on the way up is passed over: a
    clone may have brought it along."""
    root = next((each for each in (folder, *folder.resolve().parents) if is_work_tree(each)), folder)
    return Path(run(root, "rev-parse", "--show-toplevel").removesuffix("\n"))


def remotes(repository: Path) -> dict[str, str | None]:
    """Its remotes and where each is fetched from; None where only `remote_url` can tell."""
    wanted = r"^(remote\..*\.url|url\..*\.insteadof)$"
    listed = run(repository, "config", "-z", "--get-regexp", wanted, accept=(0, 1)).split("\0")
    found: dict[str, str | None] = {}
    for key, _, url in (entry.partition("\n") for entry in listed):
        if key.startswith("remote."):
            name = key.removeprefix("remote.").removesuffix(".url")
            found[name] = None if name in found else url or None
    return dict.fromkeys(found) if any(entry.startswith("url.") for entry in listed) else found


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


def reflog(repository: Path, name: str) -> list[tuple[str, str]]:
    """What a whole reference was, the newest first: each commit, and what git wrote down about it."""
    question = ("log", "--walk-reflogs", "--no-show-signature", "--no-patch", "--format=%H %gs", name, "--")
    lines = run(repository, *question).split("\n")[:-1]
    return [(commit, said) for commit, _, said in (line.partition(" ") for line in lines)]


def divergence(repository: Path, trunk: str, branch: str) -> tuple[int, int]:
    """How many commits `branch` has that `trunk` has not, and the other way round: (ahead, behind)."""
    counted = run(repository, "rev-list", "--left-right", "--count", f"{trunk}...{branch}", "--")
    behind, ahead = counted.split()
    return int(ahead), int(behind)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that differs from the commit. Two letters say how (index, work tree); `??` is untracked."""

    letters: str
    path: str
    is_submodule: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What `git status` says: its headings (`branch.oid`, …) and its entries."""

    headings: dict[str, str]
    entries: tuple[Entry, ...]


PATH_FIELD = {"1": 8, "2": 9, "u": 10}


def status(worktree: Path, *headings: str) -> Status:
    """How a worktree differs from its commit: what is staged, changed, in conflict, or new and not ignored. A
    renamed file is one entry; so is a submodule where another commit than the recorded one is checked out.
    `headings` are the options of git that ask for them.

    A filter (git-lfs has one) is a program that a repository may name, and git-lfs runs others that it
    names, so none runs, not even the user's own. What has a filter is therefore judged by size and times: a
    file that was written again with the same content counts."""
    filters = run(worktree, "config", "-z", "--name-only", "--get-regexp", FILTERS, accept=(0, 1))
    blanked = tuple(dict.fromkeys(name for name in filters.split("\0") if name))
    question = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=dirty")
    lines = iter(run(worktree, *question, *headings, blanked=blanked).split("\0"))
    told: dict[str, str] = {}
    entries: list[Entry] = []
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            told[name] = value
        elif kind == "?":
            entries.append(Entry("??", rest, False))
        elif kind:
            fields = line.split(" ", PATH_FIELD[kind])
            entries.append(Entry(fields[1], fields[-1], fields[2].startswith("S")))
        if kind == "2":
            next(lines)  # a renamed file's old path
    changed = [entry.path for entry in entries if entry.letters == ".M"]
    wrong = _misjudged(worktree, changed, blanked) if blanked and changed else frozenset()
    return Status(told, tuple(each for each in entries if each.letters != ".M" or each.path not in wrong))


def uncommitted_files(worktree: Path) -> int:
    """How many files of a worktree differ from its commit, as `status` says."""
    return len(status(worktree).entries)


def _misjudged(worktree: Path, changed: list[str], blanked: Sequence[str]) -> frozenset[str]:
    """Which of the changed files have a filter, and the size and times that the index has. git compares
    the content of a file as young as the index, which without its filter always differs; so it is asked again
    about a copy of the index that is younger than all files."""
    attributes = run(worktree, "check-attr", "-z", "--stdin", "filter", fed="\0".join(changed)).split("\0")
    answers = zip(attributes[:-1:3], attributes[2::3], strict=True)  # path, "filter", value, …
    filtered = {path for path, value in answers if value not in ("unspecified", "unset", "set")}
    if not filtered:
        return frozenset()
    import shutil
    from tempfile import TemporaryDirectory

    index = run(worktree, "rev-parse", "--path-format=absolute", "--git-path", "index").removesuffix("\n")
    with TemporaryDirectory() as folder:
        copy = shutil.copyfile(index, f"{folder}/index")
        os.utime(copy, (LATE, LATE))
        question = ("diff-files", "-z", "--name-only", "--ignore-submodules=dirty")
        older = run(worktree, *question, blanked=blanked, GIT_INDEX_FILE=copy)
    return frozenset(filtered.difference(older.split("\0")))
