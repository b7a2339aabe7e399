"""Examinations one after another: what fails is told, and the others go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slicesplat.cohort.subject import Job, reconstruct_examination
from slicesplat.errors import InputError
from slicesplat.io.bids import Examination
from slicesplat.progress import Callback

log = logging.getLogger("slicesplat")


@dataclass(frozen=True)
class Outcome:
    """What became of an examination.

    Attributes
    ----------
    examination : str
        What its files' names begin with.
    state : {"written", "there", "failed"}
        there: files of the same inputs, settings and version were there already.
    error : Exception or None
        What it failed of.
    """

    examination: str
    state: Literal["written", "there", "failed"]
    error: Exception | None = None


def reconstruct_all(examinations: Sequence[Examination], job: Job, progress: Callback | None = None) -> list[Outcome]:
    """Reconstruct examinations in turn; one that fails does not keep the others from being done.

    Parameters
    ----------
    examinations : sequence of Examination
    job : Job
    progress : callable, optional
        Called with a `Progress` now and then.
    """
    outcomes = []
    for number, examination in enumerate(examinations, start=1):
        log.info("%s: %d of %d, %d runs", examination.prefix, number, len(examinations), len(examination.runs))
        outcomes.append(_tried(examination, job, progress))
    return outcomes


def _tried(examination: Examination, job: Job, progress: Callback | None) -> Outcome:
    try:
        written = reconstruct_examination(examination, job, progress)
    except Exception as error:
        told = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        log.error("%s: %s", examination.prefix, " ".join(told.split()))
        log.debug("%s", examination.prefix, exc_info=True)
        return Outcome(examination.prefix, "failed", error)
    log.info("%s: %s", examination.prefix, "written" if written else "is done already, nothing has changed")
    return Outcome(examination.prefix, "written" if written else "there")
