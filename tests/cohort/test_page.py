"""The overview of a thousand subjects in a real browser: it opens, sorts and filters without a wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from chromium import NO_GL, Seen, opened

from slicesplat.cohort.figures import Figures
from slicesplat.cohort.overview import Line, page_of

COUNT, WAIT = 1000, 10.0  # s: a busy machine's; a quiet one takes a tenth
PICTURE = "/9j/" + 1200 * "ABCD"  # as long as those of brains are
WHY = "motion in 12 of 75 slices is more than 4 mm"


def line(number: int) -> Line:
    grade = "check" if number % 10 == 3 else "pass"
    reasons = (WHY,) if grade == "check" else ()
    ncc = None if number == 500 else (number * 7919) % COUNT / COUNT
    seen = Figures(grade, reasons, 3, 75, 0.05, ncc, 1.2, 50000, 30.0, 1.1e9, PICTURE)
    return Line(f"sub-{number}", "done", seen, "; ".join(reasons), "v.nii.gz", f"sub-{number}/report.html")


@dataclass
class Shown:
    page: Any
    seen: Seen
    seconds: float


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    path = tmp_path_factory.mktemp("overview") / "cohort.html"
    path.write_text(page_of([line(number) for number in range(COUNT)]), encoding="utf-8")
    with opened("about:blank", gl=NO_GL) as (page, seen):
        start = time.perf_counter()
        page.goto(path.as_uri())
        yield Shown(page, seen, time.perf_counter() - start)


def names(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all("tbody tr:not([hidden]) th", "all => all.map(x => x.textContent)")
    return found


def press(page: Any, name: str) -> float:
    """Seconds until it is drawn."""
    start = time.perf_counter()
    page.evaluate(
        """name => new Promise(done => {
          [...document.querySelectorAll("thead button")].find(each => each.textContent === name).click();
          requestAnimationFrame(() => setTimeout(done, 0));
        })""",
        name,
    )
    return time.perf_counter() - start


def test_it_opens_without_a_wait_an_error_or_a_request(shown: Shown) -> None:
    assert shown.seconds < WAIT
    assert shown.seen.errors == []
    assert [url for url in shown.seen.requests if not url.startswith(("data:", "file:"))] == []
    assert len(names(shown.page)) == COUNT


def test_it_sorts_numbers_as_numbers_and_names_as_people_do(shown: Shown) -> None:
    took = press(shown.page, "NCC")
    nccs = {each.name: each.figures.ncc for each in map(line, range(COUNT))}
    order = [nccs[name] for name in names(shown.page)]
    assert order[-1] is None and order[:-1] == sorted(value for value in order if value is not None)
    took = max(took, press(shown.page, "subject"))
    assert names(shown.page) == [f"sub-{number}" for number in range(COUNT)]
    took = max(took, press(shown.page, "subject"))
    assert names(shown.page)[0] == f"sub-{COUNT - 1}"
    assert took < WAIT


def test_it_filters_by_words_and_verdicts(shown: Shown) -> None:
    page = shown.page
    start = time.perf_counter()
    page.fill("#filter", "motion sub-3")
    assert set(names(page)) == {each.name for each in map(line, range(COUNT)) if each.why and "sub-3" in each.name}
    assert time.perf_counter() - start < WAIT
    page.fill("#filter", "")
    page.click("button.grade.check")
    assert len(names(page)) == COUNT // 10
    assert page.inner_text("#shown") == f"{COUNT // 10} of {COUNT} shown"
    page.click("button.grade.check")
    assert len(names(page)) == COUNT
