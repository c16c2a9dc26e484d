"""The command jaxpuffer, and python -m jaxpuffer: the command line."""

import sys

from jaxpuffer.cli_runs import COMMANDS
from jaxpuffer.exits import clear_exits


def main() -> None:
    """Run the command of the command line; those that only look at runs do not wait for JAX."""
    if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
        with clear_exits():
            COMMANDS[sys.argv[1]](sys.argv[2:])
    else:
        from jaxpuffer import cli

        cli.main()


if __name__ == "__main__":
    main()
