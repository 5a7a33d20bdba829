"""The `fourtalk` command, also as `python -m server`: for a process that starts another without a look at the PATH."""

import gc
import sys


def main() -> int:
    """Load the product, and run the command of the command line."""
    # Nothing of what is loaded is ever garbage, and looking for it there takes as long as loading it.
    gc.disable()
    from server import cli

    gc.freeze()
    gc.enable()
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
