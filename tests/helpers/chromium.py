"""A real browser without a window: Debian's Chromium, or one that is installed already."""

from __future__ import annotations

import atexit
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SOFTWARE_GL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
NO_GL = ("--disable-gpu", "--disable-3d-apis")
PATIENCE = 60_000  # ms; a busy machine draws slowly


def executable() -> str:
    """Chromium's path; the test is skipped where there is none, and fails where there has to be one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        assert not os.environ.get("SLICESPLAT_NEEDS_CHROMIUM"), "no Chromium; .ci/run installs it"
        pytest.skip("no Chromium here: install Debian's chromium, or Chrome")
    return found


@cache
def driver() -> Any:
    """Playwright, begun once: it takes one event loop for itself."""
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright here: pip install 'slicesplat[dev]'")
    begun = api.sync_playwright()
    atexit.register(begun.__exit__)
    return begun.__enter__()


@dataclass
class Seen:
    """What a page did that it should not."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@contextmanager
def opened(url: str, gl: tuple[str, ...] = SOFTWARE_GL, **context: Any) -> Iterator[tuple[Any, Seen]]:
    """A page at some address, and what it did."""
    # Chromium's own sandbox cannot be had in many containers; the pages are our own.
    browser = driver().chromium.launch(executable_path=executable(), args=["--no-sandbox", *gl])
    try:
        page, seen = browser.new_context(**context).new_page(), Seen()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda m: seen.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("request", lambda request: seen.requests.append(request.url[:100]))
        page.goto(url)
        yield page, seen
    finally:
        browser.close()


def ready(page: Any) -> None:
    """Wait for the viewer."""
    page.wait_for_selector("html[data-viewer=ready]")


def settled(page: Any) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate("images.first.waiting.then(() => new Promise((done) => requestAnimationFrame(() => done())))")


def wait_until(page: Any, true: str) -> None:
    """Wait for something in the page; Playwright's own way to do so is not allowed there."""
    end = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(true):
        assert time.monotonic() < end, f"never: {true}"
        page.wait_for_timeout(50)


def alike(one: Any, other: Any) -> bool:
    """Whether two shots show the same, but for the smoothed edge of the canvas."""
    return bool((abs(one - other).max(axis=2) > 3).mean() < 1e-3)


def canvas_pixels(page: Any, canvas: str) -> Any:
    """(rows, columns, 3) what a canvas shows on the screen."""
    import io

    import numpy as np
    from PIL import Image

    settled(page)
    shot = page.locator(f"#{canvas}").screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def address(path: Path) -> str:
    """A file's."""
    return path.resolve().as_uri()
