"""A data set in BIDS, made of small simulated stacks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from reconstructions import small

from slicesplat.io.nifti import save_mask, save_stack


def description(folder: Path, **entries: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(
        json.dumps({"Name": "Phantoms", "BIDSVersion": "1.10.0", **entries})
    )


def data_set(root: Path, examinations: Sequence[str] = ("sub-01", "sub-02"), masks: bool = True) -> Path:
    """Three runs for each of the examinations, ``sub-X`` or ``sub-X/ses-Y``, and masks as a derivative."""
    description(root)
    (root / "README").write_text("Phantoms, simulated; nothing here was scanned.\n")
    (root / "T2w.json").write_text(json.dumps({"SliceThickness": 4.0}))
    drawn = root / "derivatives" / "masks"
    if masks:
        description(drawn, DatasetType="derivative", GeneratedBy=[{"Name": "simulation"}])
    for examination in examinations:
        prefix = examination.replace("/", "_")
        for number, stack in enumerate(small().stacks, start=1):
            run = f"{prefix}_run-{number}"
            place = root / examination / "anat" / f"{run}_T2w.nii.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            save_stack(stack, place)
            if masks:
                beside = drawn / examination / "anat" / f"{run}_mask.nii.gz"
                beside.parent.mkdir(parents=True, exist_ok=True)
                save_mask(stack, beside)
    return root


def spoil(root: Path, examination: str) -> Path:
    """Make one run of an examination unusable."""
    path = sorted((root / examination / "anat").glob("*_T2w.nii.gz"))[0]
    nib.save(nib.Nifti1Image(np.ones((8, 8), np.float32), np.eye(4)), path)
    return path
