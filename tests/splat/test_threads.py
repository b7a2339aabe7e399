"""How the CPU's kernels are handed to threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numba
import numpy as np
import pytest

from slicesplat.splat.cpu.threads import in_parts


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("numba has one thread only")
    before = numba.get_num_threads()
    numba.set_num_threads(2)
    yield
    numba.set_num_threads(before)


@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_everything_is_done_once_and_both_threads_work(size: int) -> None:
    done, by = np.zeros(size, int), set()

    def kernel(out: np.ndarray, part: int, parts: int) -> None:
        out[part * size // parts : (part + 1) * size // parts] += 1
        by.add(threading.get_ident())
        time.sleep(0.001)

    in_parts(kernel, done)
    assert (done == 1).all()
    assert len(by) == 2


def test_there_is_one_first_part_and_one_last_part() -> None:
    parts: list[tuple[int, int]] = []
    in_parts(lambda part, count: parts.append((part, count)))
    assert [part == 0 for part, _ in parts].count(True) == 1
    assert [part == count - 1 for part, count in parts].count(True) == 1


def test_a_thread_that_has_done_its_share_takes_what_others_have_left() -> None:
    main, by = threading.get_ident(), []

    def kernel(part: int, parts: int) -> None:
        by.append((threading.get_ident() == main, part / parts))
        time.sleep(0.02 if part < parts // 2 else 0.0)

    in_parts(kernel)
    assert len(set(by)) == len({place for _, place in by})
    assert any(place < 0.5 and not mine for mine, place in by)


@pytest.mark.parametrize("half", [0, 1])
def test_what_a_part_raises_in_any_thread_is_raised(half: int) -> None:
    def kernel(part: int, parts: int) -> None:
        time.sleep(0.001)
        if part // (parts // 2) == half:
            raise ZeroDivisionError(part)

    with pytest.raises(ZeroDivisionError):
        in_parts(kernel)
    done: list[int] = []
    in_parts(lambda part, parts: done.append(part))
    assert len(done) > 1
