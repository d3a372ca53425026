"""README's console blocks: run as printed, compared with what is printed.

`python -m tests.e2e.tour` runs them against a server of its own and writes the real output into README.md.
A block's lines that begin with "$ " are commands, what follows one is its output (stdout and stderr). All blocks of a
run share one bash, so that a variable set in one is there in the next. What differs from run to run (ids, times,
ages, keys) is made equal before it is compared.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.live import Live, running

README = Path(__file__).parents[2] / "README.md"
WHO = {"NAME": "Ada", "EMAIL": "ada@example.org"}
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
VOLATILE = [
    (re.compile(r"\b\d{8}T\d{12}Z\b"), "TIME"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d(:?\d\d)?)?"), "TIME"),
    (re.compile(r"imi_[0-9a-f]{64}"), "KEY"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|ms|seconds?|minutes?)\b"), "AGE"),
    (re.compile(r"\b\d+(\.\d+)? KiB\b"), "SIZE"),
    (re.compile(r"[ ─│┌┐└┘├┤┬┴┼━┃┏┓┗┛┡┩┠┨╇╈╷╵╶╴|+-]+"), " "),
]


def steps(text: str) -> list[tuple[str, str]]:
    """The commands of all blocks, each with the output that is printed under it."""
    found: list[tuple[str, str]] = []
    for block in BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], ""))
            elif line.startswith("> "):
                found[-1] = (found[-1][0] + "\n" + line[2:], "")
            else:
                found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def clones(folder: Path) -> None:
    """What the tour scans: two clones with a branch each, one of them merged."""
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    for name, branch, trunk in (("probe", "feat/antenna", "main"), ("lander", "fix/leg", "fix/leg")):
        clone = folder / "code" / name
        clone.mkdir(parents=True)
        steps = [
            ["init", "-q"],
            ["remote", "add", "origin", f"git@github.com:acme/{name}.git"],
            ["commit", "-q", "--allow-empty", "-m", "First light"],
            ["switch", "-q", "-c", branch],
            ["commit", "-q", "--allow-empty", "-m", "Go on"],
            ["branch", "-f", "main", trunk],
        ]
        for step in steps:
            subprocess.run(
                [*git, "-C", clone, *step], check=True, env={"PATH": os.environ["PATH"], "HOME": str(folder)}
            )
    (folder / "code/probe/dish").write_text("not committed")


def run(commands: list[str], live: Live, folder: Path) -> list[str]:
    """What each command prints, in one bash in `folder`."""
    clones(folder)
    mark = "--8<-- next --8<--"
    script = "".join(f"{command}\necho '{mark}'\n" for command in commands)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "COLUMNS": "100",
        "LANG": "C.UTF-8",
        "IMI_DATA_DIR": str(live.data_dir),
        "IMI_API_URL": live.url,
        "IMI_AGENT": "ada",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in WHO.items()},
        "URL": live.url,
    }
    done = subprocess.run(
        ["bash"], input=script, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )  # fmt: skip
    home = re.compile(re.escape(str(folder)) + r"(\S*)")
    printed = home.sub(lambda found: ("/home/ada" + found[1]).ljust(len(found[0])), done.stdout)
    return printed.split(mark + "\n")[: len(commands)]


def alike(text: str) -> str:
    """The text without what differs from run to run."""
    for pattern, name in VOLATILE:
        text = pattern.sub(name, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


def differences(expected: list[tuple[str, str]], printed: list[str]) -> str:
    """A diff a command whose output is not what README says; empty if all are alike."""
    wrong = []
    for (command, text), output in zip(expected, printed, strict=True):
        if alike(text) != alike(output):
            diff = difflib.unified_diff(
                text.splitlines(), output.splitlines(), "README", "printed", lineterm=""
            )
            wrong.append("\n".join([f"$ {command}", *diff]))
    return "\n\n".join(wrong)


def rewrite(text: str, printed: list[str]) -> str:
    """README with what was printed under each command."""
    outputs = iter(printed)

    def block(match: re.Match[str]) -> str:
        lines: list[str] = []
        for line in match[1].splitlines():
            if line.startswith("$ "):
                if lines:
                    lines += next(outputs).rstrip().splitlines()
                lines.append(line)
            elif line.startswith("> "):
                lines.append(line)
        lines += next(outputs).rstrip().splitlines()
        return "```console\n" + "\n".join(line.rstrip() for line in lines) + "\n```"

    return BLOCK.sub(block, text)


if __name__ == "__main__":
    with running() as live, tempfile.TemporaryDirectory() as folder:
        text = README.read_text()
        README.write_text(rewrite(text, run([command for command, _ in steps(text)], live, Path(folder))))
