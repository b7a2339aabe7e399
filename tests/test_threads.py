"""How the CPU's kernels are handed to threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numba
import numpy as np
import pytest

from slicesplat.splat.threads import in_parts


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("numba has one thread only")
    before = numba.get_num_threads()
    numba.set_num_threads(2)
    yield
    numba.set_num_threads(before)


def test_every_part_is_done_once_and_both_threads_work() -> None:
    done, by = np.zeros(64, int), set()

    def kernel(out: np.ndarray, part: int, parts: int) -> None:
        out[part * 64 // parts : (part + 1) * 64 // parts] += 1
        by.add(threading.get_ident())
        time.sleep(0.001)

    in_parts(kernel, done)
    assert (done == 1).all()
    assert len(by) == 2


def test_a_thread_that_has_done_its_share_takes_what_others_have_left() -> None:
    main, by = threading.get_ident(), []

    def kernel(part: int, parts: int) -> None:
        by.append((threading.get_ident() == main, part))
        time.sleep(0.02 if part < parts // 2 else 0.0)

    in_parts(kernel)
    parts = [part for _, part in by]
    assert sorted(parts) == list(range(len(parts)))
    assert any(part < len(parts) // 2 and not mine for mine, part in by)


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    in_parts(lambda part, parts: None)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        in_parts(lambda part, parts: done.append(part))
        os._exit(0 if len(done) > 1 else 1)
    end = time.monotonic() + 20
    finished, status = 0, 0
    while not finished and time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)
    if not finished:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert finished == child
    assert status == 0
