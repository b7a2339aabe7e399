"""``python -m slicesplat`` is ``slicesplat``."""

from __future__ import annotations

import sys

from slicesplat.cli import main

if __name__ == "__main__":
    sys.exit(main())
