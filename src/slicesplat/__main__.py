"""The program: ``slicesplat`` and ``python -m slicesplat`` start here."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from slicesplat import interrupts

# Before the command line and what it needs are imported, which takes most of a short run.
interrupts.catch()
# Imports make some 400,000 objects and hardly any garbage; looking for it is a seventh of the start. The command line
# has it looked for again as soon as it has its command.
gc.disable()


def main() -> int:
    """Run one command; the exit status."""
    interrupts.watch()
    status: list[int] = []
    # What is registered first runs last, when threads have ended and libraries have put away what they have.
    atexit.register(_leave, status)
    from slicesplat.cli import main as run

    status.append(run())
    interrupts.release()
    return status[0]


def _leave(status: list[int]) -> None:
    """End the process without taking its modules apart, object by object, which takes longer than many a command."""
    if not status:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return  # Python says it as it always does.
    os._exit(status[0])


if __name__ == "__main__":
    sys.exit(main())
