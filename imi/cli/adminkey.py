"""The key in DATA_DIR/admin.key, which opens everything for whoever may read the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imi.cli.outcome import Failure

if TYPE_CHECKING:
    from asyncpg import Connection, Pool

# A key is made by the function that POST /api/v1/api-keys calls.
MAKE_KEY = "select api.api_key_create(p_body => $1::text::json, p_context => $2::text::json) ->> 'key'"


def file_in(data_dir: Path) -> Path:
    """Where the key is."""
    return data_dir / "admin.key"


async def ensure(database: Connection | Pool, data_dir: Path) -> Path:
    """The file that holds an admin key which opens this database; a new one is made when there is none."""
    from hashlib import sha256

    from imi.database.pool import KEY_CHECK

    file = file_in(data_dir)
    try:
        key = file.read_text().strip() if file.exists() else ""
        known = await database.fetchrow(KEY_CHECK, sha256(key.encode()).hexdigest())
        if not known or known["scope"] != "admin":
            key = await database.fetchval(MAKE_KEY, '{"name": "imi up", "scope": "admin"}', "{}")
            partial = file.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            partial.touch(mode=0o600, exist_ok=False)
            partial.write_text(f"{key}\n")
            partial.rename(file)
    except OSError as error:
        raise Failure("FAILED", f"Cannot keep the admin key in {file}: {error.strerror}") from None
    return file
