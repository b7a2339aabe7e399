"""What the machine has, as far as the platform tells."""

from __future__ import annotations

import subprocess
import sys


def test_memory_is_unknown_where_the_platform_does_not_tell() -> None:
    # Windows has no module `resource`; None in `sys.modules` is a module that is not there.
    code = (
        "import sys; sys.modules['resource'] = None; import slicesplat.pipeline; "
        "from slicesplat.machine import available_memory, peak_memory_mb; available_memory(); "
        "print(peak_memory_mb())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
