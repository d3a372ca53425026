"""Files that several processes share: locked by one, and written so that a kill leaves the old or the new."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import IO, Any


def take(opened: IO[str], patience: float = 0) -> bool:
    """Take the file's lock, trying for so many seconds; whether it is held now. The kernel lets go of it when
    the file is closed, at the latest when the process ends."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)


def write(file: Path, draft: Path, document: Any) -> None:
    """Write a file of JSON by way of a draft beside it; it is on the disk when this returns. OSError, and no
    draft is left, if that cannot be."""
    try:
        with draft.open("w") as opened:
            json.dump(document, opened, indent=1)
            opened.flush()
            os.fsync(opened.fileno())
        draft.rename(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    flush(file.parent)


def flush(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
