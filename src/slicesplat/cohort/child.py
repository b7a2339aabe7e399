"""The program as a child of a worker: it ends when the worker is gone, however that ended.

A worker that is killed cannot end what it has started. Its end of the pipe to this process's input is closed by the
system in any case, on every platform.
"""

from __future__ import annotations

import os
import runpy
import signal
import threading


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    runpy.run_module("slicesplat", run_name="__main__")
