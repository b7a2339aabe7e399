"""The page in a real browser: what people see, and what they can do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import NO_GL, Seen, address, alike, canvas_pixels, opened, ready, settled, wait_until
from reconstructions import brief, small

from slicesplat.report.contents import Contents
from slicesplat.report.layers import Layer, padded
from slicesplat.report.page import page as page_of
from slicesplat.report.page import save_page
from slicesplat.report.serving import LIVE, PageServer
from slicesplat.result import Reconstruction

EVIL = "<script>document.title='taken'</script>.nii.gz"
WIDE = {"width": 800, "height": 600}


@pytest.fixture(scope="module")
def made() -> Reconstruction:
    found = brief(small().stacks, uncertainty=True)
    first, *others = found.stacks
    return replace(found, stacks=[replace(first, name=EVIL), *others])


@pytest.fixture(scope="module")
def file(made: Reconstruction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    made.report(path, ["slicesplat", "reconstruct"])
    return path


@pytest.fixture(scope="module")
def shown(file: Path) -> Iterator[tuple[Any, Seen]]:
    with opened(address(file), viewport=WIDE) as (page, seen):
        ready(page)
        yield page, seen


def test_it_opens_from_disk_without_a_request_or_an_error(shown: tuple[Any, Seen], file: Path) -> None:
    page, seen = shown
    asked = [url for url in seen.requests if not url.startswith(("data:", "blob:"))]
    assert asked == [address(file)[:100]]
    assert seen.errors == []
    assert page.title().startswith("Reconstruction")
    assert page.locator("#stacks").inner_text().count(EVIL) == 1
    assert not page.locator("#still").is_visible()


def test_the_images_are_drawn_and_change_with_what_is_chosen(shown: tuple[Any, Seen]) -> None:
    page, _ = shown
    pictures = {}
    for key in ("volume", "stack-0", "predicted-0", "stack-1"):
        page.select_option("#image", key)
        pictures[key] = canvas_pixels(page, "first")
        assert (pictures[key].max(axis=2) > 60).mean() > 0.02, f"{key} is black"
    for one, other in (("volume", "stack-0"), ("stack-0", "predicted-0"), ("stack-0", "stack-1")):
        assert (np.abs(pictures[one] - pictures[other]).max(axis=2) > 20).mean() > 0.005, f"{one} looks like {other}"
    page.select_option("#image", "volume")
    assert alike(canvas_pixels(page, "first"), pictures["volume"])


@pytest.mark.parametrize("overlay", ["uncertainty", "coverage", "mask"])
def test_overlays_are_laid_over_the_image(shown: tuple[Any, Seen], overlay: str) -> None:
    page, _ = shown
    before = canvas_pixels(page, "first")
    page.check(f"input[value={overlay}]")
    after = canvas_pixels(page, "first")
    coloured = (after.max(axis=2) - after.min(axis=2) > 30) & (np.abs(after - before).max(axis=2) > 15)
    page.uncheck(f"input[value={overlay}]")
    assert coloured.mean() > 0.02
    assert alike(canvas_pixels(page, "first"), before)


def test_white_and_zoom_change_the_picture_and_reset_brings_it_back(shown: tuple[Any, Seen]) -> None:
    page, _ = shown
    before = canvas_pixels(page, "first")
    page.locator("#white").fill("300")
    assert canvas_pixels(page, "first").mean() > before.mean() + 2
    page.locator("#zoom").fill("3")
    assert (canvas_pixels(page, "first").max(axis=2) > 60).mean() > 1.5 * (before.max(axis=2) > 60).mean()
    page.click("#reset")
    assert alike(canvas_pixels(page, "first"), before)


def test_two_images_stand_side_by_side_at_one_place(shown: tuple[Any, Seen]) -> None:
    page, _ = shown
    page.check("#two")
    wait_until(page, "images.second !== null && images.second.places.size > 1")
    page.select_option("#beside", "stack-1")
    page.evaluate("images.second.waiting")
    assert (canvas_pixels(page, "second").max(axis=2) > 60).mean() > 0.01
    page.evaluate("images.moveTo([3, -2, 4])")
    places = page.evaluate("[images.first.place, images.second.place]")
    np.testing.assert_allclose(places[0], places[1], atol=0.1)
    np.testing.assert_allclose(places[0], [3, -2, 4], atol=1.0)
    page.uncheck("#two")
    settled(page)


def test_the_keyboard_moves_the_crosshair_and_changes_the_image(shown: tuple[Any, Seen]) -> None:
    page, _ = shown
    page.locator("#first").focus()
    start = page.evaluate("images.first.place")
    told = page.locator("#place").inner_text()
    page.keyboard.press("ArrowRight")
    moved = page.evaluate("images.first.place")
    assert 0.5 < moved[0] - start[0] < 3 and moved[1:] == pytest.approx(start[1:], abs=0.01)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("PageUp")
    assert all(b > a + 0.5 for a, b in zip(start, page.evaluate("images.first.place"), strict=True))
    assert page.locator("#place").inner_text() != told
    page.keyboard.press("n")
    assert page.input_value("#image") == "stack-0"
    page.keyboard.press("p")
    assert page.input_value("#image") == "predicted-0"
    page.select_option("#image", "volume")
    settled(page)


def drawn(page: Any, canvas: str) -> np.ndarray:
    """(n, 3) colours of a canvas of the slices."""
    script = f"""() => {{ const c = document.getElementById("{canvas}");
        return [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]; }}"""
    return np.array(page.evaluate(script)).reshape(-1, 4)[:, :3]


def test_a_slice_that_is_chosen_shows_its_pictures(shown: tuple[Any, Seen], made: Reconstruction) -> None:
    page, _ = shown
    cells = page.locator(".cell")
    assert cells.count() == len(made.slices)
    cells.nth(2).click()
    wait_until(page, "slicePictures.sheets.size > 0")
    facts, first = page.locator("#facts").inner_text(), drawn(page, "acquired")
    assert first.max() > 60 and drawn(page, "predicted").max() > 60
    assert (np.ptp(drawn(page, "difference"), axis=1) > 10).any()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert page.locator("#facts").inner_text() != facts
    assert page.evaluate("document.activeElement.dataset.place") == "3"
    assert drawn(page, "acquired").shape != first.shape or (drawn(page, "acquired") != first).any()
    page.click("#there")
    known = page.evaluate("slicePictures.known.centre")
    wait_until(page, "document.activeElement.id === 'first'")
    np.testing.assert_allclose(page.evaluate("images.first.place"), known, atol=1.5)


def test_everything_can_be_reached_by_the_keyboard(shown: tuple[Any, Seen]) -> None:
    page, _ = shown
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    for name in ("image", "two", "first", "black", "white", "zoom", "reset", "next", "there"):
        assert name in reached
    assert any(name.startswith("cell") for name in reached)
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, select, input, canvas, svg[role=img], img")].filter((e) =>
        !(e.ariaLabel || e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim() || e.alt)).length"""
    )
    assert unnamed == 0


def test_a_picture_shows_where_there_is_no_webgl(file: Path) -> None:
    with opened(address(file), NO_GL, viewport=WIDE) as (page, seen):
        assert page.evaluate("document.createElement('canvas').getContext('webgl2')") is None
        assert page.locator("#still img").is_visible() and not page.locator("#panes").is_visible()
        assert page.evaluate("document.querySelector('#still img').naturalWidth") > 100
        page.locator(".cell").nth(1).click()
        assert page.locator("#acquired").is_visible() and not page.locator("#there").is_visible()
        assert seen.errors == []


def test_it_is_dark_where_dark_is_asked_for_and_narrow_where_there_is_no_room(file: Path) -> None:
    given = {"viewport": {"width": 400, "height": 800}, "color_scheme": "dark"}
    with opened(address(file), NO_GL, **given) as (page, _):
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in colour.strip("rgb()").split(",")) < 60
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.emulate_media(media="print")
        assert page.locator("#still img").is_visible()
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == "rgb(255, 255, 255)"


def test_a_page_that_is_served_ends_with_the_window() -> None:
    volume = Layer("volume", "ball", "Volume", *padded(np.ones((12, 12, 12), np.float32), np.eye(4)))
    server = PageServer(page_of(Contents("ball", [volume]), LIVE), grace=0.5)
    waiting = threading.Thread(target=server.wait, daemon=True)
    waiting.start()
    try:
        with opened(server.address, viewport=WIDE) as (page, seen):
            ready(page)
            assert seen.errors == []
            assert all(url.startswith((server.address, "data:", "blob:")) for url in seen.requests)
            page.wait_for_timeout(1500)
            assert waiting.is_alive()
            page.close()
            waiting.join(timeout=15)
            assert not waiting.is_alive()
    finally:
        server.close()


def test_two_reconstructions_are_shown_side_by_side(made: Reconstruction, tmp_path: Path) -> None:
    values, affine = np.asarray(made.volume.dataobj), made.volume.affine
    difference = np.where(values > 0, np.linspace(-1, 1, values.shape[0])[:, None, None] * values.max(), 0)
    layers = [
        Layer("a", "one", "Images", values, affine),
        Layer("b", "other", "Images", values[::-1], affine),
        Layer("difference", "other less one", "Differences", difference, affine, "difference", signed=True,
              window=(-float(values.max()), float(values.max()))),
    ]  # fmt: skip
    save_page(Contents("one and other", layers, beside=True), tmp_path / "page.html")
    with opened(address(tmp_path / "page.html"), viewport=WIDE) as (page, seen):
        ready(page)
        both = [canvas_pixels(page, name) for name in ("first", "second")]
        assert page.input_value("#image") == "a" and page.input_value("#beside") == "b"
        assert all((pixels.max(axis=2) > 60).mean() > 0.01 for pixels in both)
        page.locator("#first").focus()
        page.keyboard.press("p")
        assert page.input_value("#image") == "b"
        page.select_option("#image", "difference")
        shown = canvas_pixels(page, "first").reshape(-1, 3)
        bluer, redder = shown[:, 2] - shown[:, 0] > 40, shown[:, 0] - shown[:, 2] > 40
        assert bluer.mean() > 0.005 and redder.mean() > 0.005
        assert seen.errors == []
