"""One examination: from its runs in a data set to its files in the derivative."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from slicesplat.cohort.content import content_hash, inputs_of
from slicesplat.cohort.derivative import Derivative, Files
from slicesplat.config import Config
from slicesplat.config.segmentation import Anatomy
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.bids import Examination
from slicesplat.pipeline import reconstruct
from slicesplat.prepare.load import load_stacks
from slicesplat.progress import Callback
from slicesplat.records import Verdict

log = logging.getLogger("slicesplat")


@dataclass(frozen=True)
class Job:
    """What is to be done with every examination.

    Attributes
    ----------
    derivative : Derivative
        Where results go.
    config : Config
        Settings of the reconstructions.
    segmentation : bool
        Find the brain where there are no masks.
    anatomy : {"auto", "fetal", "neonatal"}
        What surrounds the brain that is looked for.
    """

    derivative: Derivative
    config: Config
    segmentation: bool = True
    anatomy: Anatomy = "auto"


def reconstruct_examination(examination: Examination, job: Job, progress: Callback | None = None) -> bool:
    """Reconstruct an examination and write its files, unless that is done already.

    Parameters
    ----------
    examination : Examination
    job : Job
    progress : callable, optional
        Called with a `Progress` now and then.

    Returns
    -------
    bool
        False: files of the same inputs, settings and version were there.

    Raises
    ------
    InputError
        The runs or their masks cannot be used, or files that are there were changed since they were written.
    OSError
        The files cannot be written.
    """
    files = Files(job.derivative, examination)
    content = content_hash(inputs_of(examination), job.config, (job.segmentation, job.anatomy))
    if files.are_of(content):
        return False
    files.check()
    result = reconstruct(load_examination(examination, job), job.config, progress)
    files.write(result, content)
    _tell(examination, result.verdict)
    return True


def _tell(examination: Examination, verdict: Verdict) -> None:
    """Whether the volume can be believed; what speaks against it is a warning."""
    told = "; ".join([f"{examination.prefix}: verdict {verdict.grade}", *verdict.reasons])
    log.log(logging.INFO if verdict.grade == "pass" else logging.WARNING, "%s", told)


def load_examination(examination: Examination, job: Job) -> list[Stack]:
    """The stacks of an examination.

    Raises
    ------
    InputError
        As `load_stacks`; some runs have masks and others have none.
    """
    runs = examination.runs
    masks, mask_of = _masks(examination, job)
    thicknesses = [run.thickness for run in runs]
    return load_stacks(
        [run.path for run in runs],
        masks,
        thicknesses,
        mask_of=mask_of,
        segmentation=job.segmentation,
        anatomy=job.anatomy,
    )


def _masks(examination: Examination, job: Job) -> tuple[list[Path], int | None]:
    """The masks of all runs, none, or the only one and the run, from 1, that it is drawn on."""
    drawn = [run.mask for run in examination.runs]
    found = [(number, mask) for number, mask in enumerate(drawn, start=1) if mask is not None]
    if job.derivative.masks is None or len(found) == len(drawn):
        return [mask for _, mask in found], None
    if len(found) == 1:
        return [found[0][1]], found[0][0]
    without = next(run.path.name for run in examination.runs if run.mask is None)
    raise InputError(
        f"{without}: has no mask in {job.derivative.masks}, and {len(found)} of {len(drawn)} runs have one; "
        "draw one for each run or for a single one, or leave out --masks-derivative"
    )
