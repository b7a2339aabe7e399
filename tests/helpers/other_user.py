"""Commands run by a user who owns nothing, and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

NOBODY = 65534


def as_nobody() -> list[str]:
    """The words ahead of a command that let another user run it; none where this user cannot become another.

    A Python that lies in root's home can be read by that user all the same, but nothing can be written.
    """
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root ignores modes, and there is no setpriv to become another user")
    read = "+dac_read_search"
    user = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    return ["setpriv", *user, "--inh-caps", read, "--ambient-caps", read]


def without_network() -> list[str]:
    """The words ahead of a command that take the network from it; none where that is not allowed."""
    words = ["unshare", "--net"]
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return []
    return words if allowed else []
