"""Patterns of what is not watched, as gitignore writes them.

`name` matches at any depth, `a/b` and `/name` only from the root, `name/` only folders; `*` and `?` stay
inside one name, `**` crosses them; `!` takes back what an earlier pattern excluded. The last match decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


class Exclusion:
    """The patterns, ready to be asked. `.git` is always excluded."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.rules = [_rule(pattern) for pattern in patterns if pattern.strip("/! ") and pattern[0] != "#"]

    def covers(self, path: str, folder: bool) -> bool:
        """Whether a path below a worktree's root is excluded; the folders above it are asked on their own."""
        if path.rpartition("/")[2] == ".git":
            return True
        for expression, folders_only, excluded in reversed(self.rules):
            if (folder or not folders_only) and expression.fullmatch(path):
                return excluded
        return False


def _rule(pattern: str) -> tuple[re.Pattern[str], bool, bool]:
    excluded = not pattern.startswith("!")
    text = pattern.removeprefix("!").strip()
    folders_only = text.endswith("/")
    text = text.rstrip("/")
    anchored = "/" in text
    expression = "" if anchored else "(?:.*/)?"
    for part in re.findall(r"\*\*/|/\*\*$|\[!?\]?[^]]*\]|\\.|.", text.removeprefix("/"), re.DOTALL):
        if part == "**/":
            expression += "(?:.*/)?"
        elif part == "/**":
            expression += "/.*"
        elif part == "*":
            expression += "[^/]*"
        elif part == "?":
            expression += "[^/]"
        elif len(part) > 2 and part[0] == "[":
            negated, inside = part[1] == "!", part[1:-1].removeprefix("!")
            escaped = re.sub(r"([][&~|^])", r"\\\1", inside)
            expression += f"(?!/)[{'^' * negated}{escaped}]"
        else:
            expression += re.escape(part[-1])
    try:
        return re.compile(expression, re.DOTALL), folders_only, excluded
    except re.error:  # no range at all, as in [z-a]: it means itself
        return re.compile(re.escape(text)), folders_only, excluded
