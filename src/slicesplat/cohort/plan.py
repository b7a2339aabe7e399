"""What is to be done of a cohort: one task a subject, of a table or of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from slicesplat.cohort.content import WITHOUT_EFFECT, inputs_of
from slicesplat.cohort.derivative import Derivative, Files
from slicesplat.cohort.table import Row
from slicesplat.cohort.task import Made, Record, Task, options_text
from slicesplat.config import Config
from slicesplat.errors import InputError
from slicesplat.geometry.stack import Stack
from slicesplat.io.bids import Examination
from slicesplat.prepare.memory import RESIDENT, estimate_memory

_MARGIN = 1.1
"""Of what a subject took before, or is estimated to take."""
_THICKNESS = 4.0
"""mm, for the estimate, where a slice's thickness is not stated."""


def table_tasks(rows: Sequence[Row], root: Path, flags: Mapping[str, tuple[str, ...]]) -> list[Task]:
    """The tasks of a table: a folder of its own for each subject.

    Parameters
    ----------
    rows : sequence of Row
    root : Path
        The folder of outputs.
    flags : mapping
        Flags that hold for all subjects where their rows do not say otherwise.
    """
    return [_table_task(row, root, {**flags, **row.options}) for row in rows]


def _table_task(row: Row, root: Path, options: dict[str, tuple[str, ...]]) -> Task:
    made = Made(
        f"{row.name}/volume.nii.gz", f"{row.name}/result.json", f"{row.name}/report.html", (f"{row.name}/[!.]*",)
    )
    try:
        stacks, masks, sidecars = row.files()
    except InputError as error:
        return Task(row.name, (), (), "", root, made, problem=str(error))
    words = ["reconstruct", "--input-stacks", *map(str, stacks)]
    if masks:
        words += ["--stack-masks", *map(str, masks)]
    for flag, values in options.items():
        words += [flag, *values]
    outputs = {"volume": made.volume, "json": made.about, "report": made.report}
    for name, path in outputs.items():
        words += [f"--output-{name}", str(root / path)]
    counted = {
        flag: values for flag, values in options.items() if flag.strip("-").replace("-", "_") not in WITHOUT_EFFECT
    }
    said = options_text({"options": counted, "masks": len(masks)})
    read = (*stacks, *masks, *sidecars)
    return Task(row.name, tuple(words), read, said, root, made, tuple(stacks), tuple(masks))


def data_set_tasks(
    examinations: Sequence[Examination], derivative: Derivative, config: Config, flags: Mapping[str, tuple[str, ...]]
) -> list[Task]:
    """The tasks of a data set in BIDS: what ``slicesplat bids`` does for every examination.

    Parameters
    ----------
    examinations : sequence of Examination
    derivative : Derivative
        That is written.
    config : Config
        What the results depend on.
    flags : mapping
        Flags of ``slicesplat bids``.
    """
    return [_examination_task(each, derivative, config, flags) for each in examinations]


def _examination_task(
    examination: Examination, derivative: Derivative, config: Config, flags: Mapping[str, tuple[str, ...]]
) -> Task:
    files, folder = Files(derivative, examination), examination.folder
    prefix = examination.prefix
    volume = files.volume.relative_to(derivative.root).as_posix()
    about = f"{folder}/xfm/{prefix}_rec-slicesplat_xfm.json"
    report = f"{folder}/anat/{prefix}_rec-slicesplat_T2w.html"
    made = Made(volume, about, report, (f"{folder}/anat/{prefix}_*", f"{folder}/xfm/{prefix}_*", f"{folder}/xfm/*.tfm"))
    words = ["bids", str(derivative.raw), str(derivative.root), "participant", "--skip-bids-validation"]
    words += ["--participant-label", examination.subject]
    if examination.session:
        words += ["--session-label", examination.session]
    if derivative.masks is not None:
        words += ["--masks-derivative", str(derivative.masks)]
    for flag, values in flags.items():
        words += [flag, *values]
    settings = {key: value for key, value in asdict(config).items() if key not in WITHOUT_EFFECT}
    try:
        inputs = inputs_of(examination)
    except InputError as error:
        return Task(prefix, (), (), "", derivative.root, made, problem=str(error))
    stacks = tuple(run.path for run in examination.runs)
    masks = tuple(run.mask for run in examination.runs if run.mask is not None)
    said = options_text(settings)
    return Task(prefix, tuple(words), tuple(inputs), said, derivative.root, made, stacks, masks)


def with_memory(task: Task, config: Config) -> Task:
    """The task with the memory that it took before, else with what its images let expect.

    Masks are read for it, so that it is asked of what is to be done, and not of all.
    """
    if task.problem:
        return task
    record = Record.load(task.record)
    known = record.figures.memory if record is not None else None
    memory = known if known is not None else _expected(task.stacks, task.masks, config)
    return task if memory is None else replace(task, memory=_MARGIN * memory)


def _expected(stacks: Sequence[Path], masks: Sequence[Path], config: Config) -> float | None:
    """Bytes, from headers and masks; None where they cannot be read: the run itself says why."""
    try:
        drawn = [_seen(stack, mask) for stack, mask in zip(stacks, masks, strict=False)] if masks else []
        shown = drawn or [_seen(stack, None) for stack in stacks]
        if len(shown) == 1 < len(stacks):
            # One mask for all: the region is as large in the others.
            shown = shown * len(stacks)
        return estimate_memory(shown, config, config.fit.spacings, resident=RESIDENT).peak
    except (OSError, ImageFileError, ValueError, EOFError):
        return None


def _seen(stack: Path, mask: Path | None) -> Stack:
    """A stack of a file's geometry, without its intensities."""
    image: Any = nib.load(stack)
    shape = image.shape[:3]
    drawn: Any = None if mask is None else nib.load(mask)
    inside = np.ones(shape, bool) if drawn is None else np.asarray(drawn.dataobj).reshape(shape) > 0
    return Stack(np.broadcast_to(np.float32(0), shape), inside, np.array(image.affine), _THICKNESS, stack.name)
