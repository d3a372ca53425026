"""The two lanes of SQL as files: the migrations of `db/`, the functions and views of `sql/`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imi
from imi.database import DatabaseError

BEHAVIOUR = ("logic", "api", "analytics", "ops")

_TOKEN = re.compile(
    r"""--[^\n]* | /\*.*?\*/ | [eE]'(?:[^'\\]|\\.|'')*' | '[^']*' | "[^"]*" | \$(\w*)\$.*?\$\1\$ | ;""",
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a file, with the line it starts on."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Lanes:
    """Both lanes' settings, as dbmate.yml says them; every path is absolute."""

    migrations_dir: Path
    schema_file: Path
    migrations_table: str
    schemas: tuple[str, ...]
    sql_dir: Path

    @property
    def packaged(self) -> bool:
        """Whether they lie inside the package, where a wheel put them: nothing is to be written there."""
        return Path(imi.__file__).parent in self.sql_dir.parents

    @property
    def roles(self) -> str:
        """The text of db/roles.sql."""
        return (self.migrations_dir.parent / "roles.sql").read_text(encoding="utf-8")

    def migrations(self) -> dict[str, Path]:
        """Answer the migrations in order: version → file."""
        files = sorted(self.migrations_dir.glob("[0-9]*.sql"))
        return {file.name.partition("_")[0]: file for file in files}

    def manifest(self) -> list[Path]:
        """Answer the files of the behaviour lane in the order of load.sql; the last one grants."""
        load = (self.sql_dir / "load.sql").read_text(encoding="utf-8")
        return [self.sql_dir / name for name in re.findall(r"^\\ir\s+(\S+)\s*$", load, re.MULTILINE)]

    def fingerprint(self) -> str:
        """Answer the SHA-256 of everything a migrate step brings: the release, the roles and both lanes."""
        digest = hashlib.sha256(f"{imi.__version__}\n{self.roles}".encode())
        for file in (*self.migrations().values(), *self.manifest()):
            digest.update(f"\n{file.name}\n".encode() + file.read_bytes())
        return digest.hexdigest()


def lanes() -> Lanes:
    """Find the lanes: beside the package in a checkout, else inside it, as the wheel carries them."""
    import yaml

    package = Path(imi.__file__).parent
    for root in (package.parent, package / "lanes"):
        if (root / "dbmate.yml").is_file():
            said = yaml.safe_load((root / "dbmate.yml").read_text(encoding="utf-8"))
            return Lanes(
                migrations_dir=root / said["migrations_dir"],
                schema_file=root / said["schema_file"],
                migrations_table=said["migrations_table"],
                schemas=tuple(said["schemas"]),
                sql_dir=root / said["sql_dir"],
            )
    raise DatabaseError("This installation lacks its SQL files (dbmate.yml, db, sql): install iMi again")


def is_written(file: Path) -> bool:
    """Say whether a migration's up part holds more than comments."""
    up, _ = _parts(file)
    return any(line.strip() and not line.lstrip().startswith("--") for line in up.splitlines())


def dropped_tables(file: Path) -> list[str]:
    """Answer the tables that a migration's down part drops."""
    _, down = _parts(file)
    lists = re.findall(
        r"^\s*drop\s+table\s+(?:if\s+exists\s+)?([\w.,\s]+?)(?:\s+cascade)?\s*;", down, re.M | re.I
    )
    return [name.strip() for names in lists for name in names.split(",")]


def _parts(file: Path) -> tuple[str, str]:
    up, _, down = file.read_text(encoding="utf-8").partition("-- migrate:down")
    return up, down


def statements(file: Path) -> Iterator[Statement]:
    """Cut a file into its statements; quotes, dollar quotes and comments hide their semicolons.

    Comments before a statement belong to it; nested block comments and `begin atomic` bodies are not known.
    """
    text = file.read_text(encoding="utf-8")
    start = 0
    for token in _TOKEN.finditer(text):
        if token.group() == ";":
            yield Statement(file.name, text.count("\n", 0, start) + 1, text[start : token.end()])
            start = token.end()
    if _TOKEN.sub("", text[start:]).strip():
        raise DatabaseError(f"sql/{file.name}: the last statement has no semicolon")
