"""The command line: `python -m dfa_utils`, or `dfa` where the package is installed. `cli` holds what it does."""

import sys

from dfa_utils.cli.parser import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    sys.exit(main())
