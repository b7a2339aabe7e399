"""One module per command, imported only when that command is asked for.

Each holds a frozen dataclass `Command` whose fields are the flags; `slicesplat.cli` makes the parser from it
and calls its `run`. A settings class of the library (`Config`, ...) is one of the fields, so that help,
defaults and API cannot drift apart.
"""

from __future__ import annotations

import sys
from importlib import import_module

if "pydicom" not in sys.modules:
    # nibabel imports pydicom where it is installed, for one kind of extension of headers that no command reads. With
    # what that imports in turn it takes longer than nibabel itself.
    sys.modules["pydicom"] = None  # type: ignore[assignment]  # not found
    try:
        import_module("nibabel")
    finally:
        del sys.modules["pydicom"]
