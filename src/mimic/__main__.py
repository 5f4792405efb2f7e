"""`mimic`, and `python -m mimic`: the command line, which Ctrl-C also ends while it is loading."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point."""
    try:
        from mimic import cli

        cli.main()
    except KeyboardInterrupt:
        print("Aborted.", file=sys.stderr)
        sys.exit(130)  # as shells say of SIGINT


if __name__ == "__main__":
    main()
