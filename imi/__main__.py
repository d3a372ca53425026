"""`imi` and `python -m imi`: the command line."""

import gc
import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    gc.disable()  # starting makes much and drops nothing: once a command is loaded it is on again
    from imi.cli import run

    code = run(sys.argv[1:])
    gc.freeze()  # nor are there cycles to look for at the end
    sys.exit(code)


if __name__ == "__main__":
    main()
