"""`imi` and `python -m imi`: the command line."""

import gc
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    gc.set_threshold(100_000)  # imports make much and drop nothing: looking for cycles took 5 % of a start
    from imi.cli import run

    code = run(sys.argv[1:])
    gc.freeze()  # nor are there cycles to look for at the end
    sys.exit(code)


if __name__ == "__main__":
    main()
