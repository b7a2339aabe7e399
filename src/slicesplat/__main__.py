"""The program: ``slicesplat`` and ``python -m slicesplat`` start here."""

from __future__ import annotations

import sys

from slicesplat import interrupts

# Before the command line and what it needs are imported, which takes most of a short run.
interrupts.catch()


def main() -> int:
    """Run one command; the exit status."""
    interrupts.watch()
    from slicesplat.cli import main as run

    status = run()
    interrupts.release()
    return status


if __name__ == "__main__":
    sys.exit(main())
