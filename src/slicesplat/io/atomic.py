"""Write a file whole or not at all: to a temporary name in the same folder, then rename (DESIGN.md section 4)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Lend a temporary path that takes the place of `path` when the block ends without an error.

    Parameters
    ----------
    path : path-like
        Where the file belongs; an older file there stays whole until the new one is complete.

    Yields
    ------
    Path
        A name in the same folder that ends like `path`, since writers choose the format by the suffix.

    Raises
    ------
    OSError
        The block wrote nothing to the temporary path, or `path` cannot be replaced.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "poses.json"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("{}")
    >>> target.read_text()
    '{}'
    """
    target = Path(path)
    temporary = target.with_name(f".{secrets.token_hex(4)}-{target.name}")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
