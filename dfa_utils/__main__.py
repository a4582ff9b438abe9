"""The command line: `python -m dfa_utils`, or `dfa` where the package is installed. `cli` holds what it does."""

import os
import sys

from dfa_utils.cli.parser import parser
from dfa_utils.support import this_process

STOPPED, CLOSED = 130, 141  # what a shell expects after Ctrl+C, and of a program whose reader has gone (| head)


def main(arguments=None) -> int:
    """Run one command; the exit status is one of `cli.parser.STATUS`, or CLOSED where nobody reads on."""
    options = parser().parse_args(arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter of a file name goes on
    try:
        return options.command(options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it ends
        return CLOSED
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return STOPPED
    except (ValueError, OSError, ImportError) as error:  # of ours, or as clear: it names the file and the cure
        cure = "; see README.md, or give an exported detector" if isinstance(error, ModuleNotFoundError) else ""
        print(f"error: {error}{cure}", file=sys.stderr)
        return 2
    finally:
        this_process().destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
