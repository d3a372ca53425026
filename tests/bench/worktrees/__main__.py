"""make bench-worktrees: how long the worktree commands take beside git's own.

Each of iMi's commands takes turns with what it is compared with, in one run on the same repository, so that
whatever else the machine does meets both.
"""

import sys

from tests.bench.rows import main
from tests.bench.worktrees import commands, creating, monitor, reconcile, starting
from tests.bench.worktrees.stage import staged

ROWS = {
    "start": starting.started,
    "create": creating.created,
    "fetch": creating.fetched,
    "list": commands.commanded,
    "reconcile": reconcile.reconciled,
    "screen": monitor.screen,
    "idle": monitor.idle,
    "crowd": monitor.crowd,
}

if __name__ == "__main__":
    sys.exit(main("tests.bench.worktrees", __doc__, "a repository of 50,000 files too", ROWS, staged))
