"""make bench-log: how fast the log is read, walked along its causes, watched and projected anew, at a million events.

All sides take turns in one run on the same PostgreSQL, so that whatever else the machine does meets them all.
"""

import sys

from tests.bench.log import causes, partitions, reading, rebuild, stream
from tests.bench.log.stage import staged
from tests.bench.rows import main

ROWS = {
    "read": reading.read,
    "causes": causes.descended,
    "stream": stream.watched,
    "rebuild": rebuild.rebuilt,
    "partitions": partitions.compared,
}

if __name__ == "__main__":
    sys.exit(
        main(
            "tests.bench.log", __doc__, "ten million events too: 9 GB, and minutes to make them", ROWS, staged
        )
    )
