"""The git command: each function is one question to it, answered with plain values.

git is run without a shell, in a repository given by path, with NUL-separated porcelain. References are whole
(`refs/heads/…`) or commits, so no name can pass for an option. Every failure is a GitError.

Nothing here writes, and nothing here starts a program that a repository names or sends git over any network:
a clone is read before anybody has looked at it. File monitor and hooks are off and every protocol is refused,
so a missing object is an error, never a fetch. Filters, which git has no switch for, are blanked one by one
(uncommitted.py). A submodule is a repository of its own, with settings of its own: its work tree is read
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
            input=fed.encode(errors="surrogateescape") if fed else None,
            stdin=None if fed else subprocess.DEVNULL,  # a pipe less
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
    """A reference and the commit it names. `target` is what a symbolic reference points to, else empty."""

    name: str
    target: str
    commit: str
    committer_email: str
    subject: str


def refs(repository: Path, *patterns: str) -> list[Ref]:
    """The references below the patterns (`refs/heads`, …), by name."""
    fields = ("refname", "symref", "objectname", "committeremail", "contents:subject")
    layout = "".join(f"%({field})%00" for field in fields)
    found = []
    for line in run(repository, "for-each-ref", f"--format={layout}", *patterns).split("\0\n"):
        if line:
            name, target, commit, email, subject = line.split("\0")
            found.append(Ref(name, target, commit, email.strip("<>"), subject))
    return found


def reflog(repository: Path, name: str) -> list[tuple[str, str]]:
    """What a whole reference was, the newest first: each commit, and what git wrote down about it."""
    question = ("log", "--walk-reflogs", "--no-show-signature", "--no-patch", "--format=%H %gs", name, "--")
    lines = run(repository, *question).split("\n")[:-1]
    return [(commit, said) for commit, _, said in (line.partition(" ") for line in lines)]
