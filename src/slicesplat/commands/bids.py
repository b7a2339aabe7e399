"""``slicesplat bids``: a data set in BIDS in, a derivative in BIDS out, as BIDS Apps do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from slicesplat.cohort.derivative import NAME, Derivative, masks_derivative
from slicesplat.cohort.loop import Outcome, reconstruct_all
from slicesplat.cohort.shard import shard
from slicesplat.cohort.subject import Job
from slicesplat.cohort.validate import warn_of_faults
from slicesplat.commands.base import BaseCommand, OptionalPath, ProgressDisplay, log
from slicesplat.commands.settings import Settings
from slicesplat.config import Config
from slicesplat.config.segmentation import Anatomy
from slicesplat.errors import InputError, OutputError
from slicesplat.io.bids import find_examinations
from slicesplat.io.templates import load_template


@dataclass(frozen=True, kw_only=True)
class Command(BaseCommand):
    """Reconstruct the examinations of a data set in BIDS.

    What is done is not done again, unless inputs, settings or version have changed; one examination that fails does not
    keep the others from being done.

    Attributes
    ----------
    bids_dir : path
        The data set.
    output_dir : path
        The derivative to write, as BIDS_DIR/derivatives/slicesplat.
    analysis_level : {participant}
        Every examination by itself.
    participant_label : labels
        Subjects, with or without sub-. None: all.
    session_label : labels
        Sessions, with or without ses-. None: all.
    masks_derivative : path
        A derivative with masks of the stacks, or the name of one in BIDS_DIR/derivatives: files of the suffix mask, for
        every stack or for one of a session. None: the brain is found.
    segmentation : bool
        Find the brain where there are no masks; without, the region is what is not zero.
    anatomy : {auto, fetal, neonatal}
        Whether the brain that is looked for is in the womb or in a head in air. auto: by what surrounds it.
    skip_bids_validation : bool
        Do not ask bids-validator-deno, where it is installed, whether the data set is as it should be.
    shard : i/n
        Do every n-th examination, from the i-th on: for several machines or jobs side by side.
    work_dir : path
        Taken because BIDS Apps have it: no intermediate files are written.
    uncertainty : bool
        Write the standard error of every voxel too; takes about as long as the fit.
    orientation : {scanner, ras, standard}
        How the volumes lie. scanner: along the scanner's axes, in its space. ras: in its space too, along the brain's
        own axes. standard: in the space of a template.
    template : path
        A brain by itself, NIfTI, whose space is the standard one. None: a built-in fetal brain.
    config : Settings
        Settings of the reconstruction.
    """

    bids_dir: tyro.conf.Positional[Path]
    output_dir: tyro.conf.Positional[Path]
    analysis_level: tyro.conf.Positional[Literal["participant"]]
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    masks_derivative: OptionalPath = None
    segmentation: bool = True
    anatomy: Anatomy = "auto"
    skip_bids_validation: bool = False
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    work_dir: Annotated[Path | None, tyro.conf.arg(aliases=["-w"], metavar="PATH")] = None
    uncertainty: bool = True
    orientation: Literal["scanner", "ras", "standard"] = "scanner"
    template: OptionalPath = None
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Find the examinations, reconstruct each, say how many failed."""
        masks = masks_derivative(self.bids_dir, self.masks_derivative)
        derivative = Derivative(self._root(), self.bids_dir, masks)
        derivative.check()
        job = Job(derivative, self._settings(), self.segmentation, self.anatomy)
        examinations = find_examinations(self.bids_dir, self.participant_label, self.session_label, masks)
        if self.shard is not None:
            examinations = shard(examinations, self.shard)
        if not self.skip_bids_validation:
            warn_of_faults(self.bids_dir)
        derivative.describe()
        with ProgressDisplay(console) as progress:
            outcomes = reconstruct_all(examinations, job, progress)
        _end(outcomes)

    def _root(self) -> Path:
        """The derivative: in a folder of derivatives one of its own."""
        return self.output_dir / NAME if self.output_dir.name == "derivatives" else self.output_dir

    def _settings(self) -> Config:
        if self.template is not None:
            load_template(self.template)
        template = "" if self.template is None else str(self.template)
        return replace(
            self.config.plain(), uncertainty=self.uncertainty, orientation=self.orientation, template=template
        )


def _end(outcomes: list[Outcome]) -> None:
    """Say what became of all; a failure makes the status.

    Raises
    ------
    InputError, OutputError
        Examinations failed: all of them of their inputs, or not.
    """
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    there = sum(outcome.state == "there" for outcome in outcomes)
    log.info("%d written, %d were done already, %d failed", len(outcomes) - there - len(failed), there, len(failed))
    if not failed:
        return
    names = ", ".join(outcome.examination for outcome in failed)
    told = f"{names}: {len(failed)} of {len(outcomes)} examinations failed, as told above; see to them and run again"
    if all(isinstance(outcome.error, InputError) for outcome in failed):
        raise InputError(told)
    raise OutputError(told)
