"""The derivative that is written: its description, where an examination's files lie, and whether they are there."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slicesplat.cohort.content import WITHOUT_EFFECT
from slicesplat.errors import InputError
from slicesplat.io.atomic import atomic_path
from slicesplat.io.bids import DESCRIPTION, Examination
from slicesplat.io.files import check_output_folder, load_json, save_json
from slicesplat.io.folder import check_owned, is_intact, output_folder
from slicesplat.io.nifti import save_volume
from slicesplat.version import __version__

if TYPE_CHECKING:
    from slicesplat.result import Reconstruction  # with PyTorch, which those who only plan do not need

NAME = "slicesplat"
CONTENT_HASH = "ContentHash"
_BIDS_VERSION = "1.10.0"
_RAW, _MASKS = "raw", "masks"
"""What the data sets of stacks and of masks are called in URIs."""
_IGNORED = ("xfm", "*.html", "cohort.tsv", ".slicesplat-batch", "slicesplat-manifest.json")
"""What the validator is not to look at: BIDS has no names for transforms and reports yet."""
_README = """\
# Volumes by slicesplat

Each session's stacks of thick slices were reconstructed into one isotropic volume.

- `anat/*_rec-slicesplat_T2w.nii.gz`: the volume; what it was made of, the settings and the verdict are in its `.json`
- `anat/*_rec-slicesplat_T2w.html`: a report to look at, with verdict, viewer and every slice
- `anat/*_rec-slicesplat_desc-brain_mask.nii.gz`: where it shows the region
- `anat/*_rec-slicesplat_desc-uncertainty_T2w.nii.gz`: the standard error of every voxel
- `xfm/RUN_sliceN.tfm`: from where the scanner put slice N (from 0) of a run to where it belongs, an ITK transform
- `xfm/*_rec-slicesplat_xfm.json`: the same with weights and correlations of all slices, and how long it took
"""


def masks_derivative(raw: Path, given: Path | None) -> Path | None:
    """The folder that ``--masks-derivative`` means.

    Parameters
    ----------
    raw : Path
        The data set of the stacks.
    given : Path or None
        The name of one of its derivatives, or a path. A name that both have is that of the derivative.

    Raises
    ------
    InputError
        There is neither.
    """
    if given is None:
        return None
    named = raw / "derivatives" / given
    for folder in (named, given):
        if os.path.isdir(folder):
            return folder
    raise InputError(f"{given}: no such folder, and none in {named.parent}; name a derivative with masks")


@dataclass(frozen=True)
class Derivative:
    """Where the results of a data set go.

    Attributes
    ----------
    root : Path
        The derivative.
    raw : Path
        The data set of the stacks.
    masks : Path or None
        The data set of their masks.
    """

    root: Path
    raw: Path
    masks: Path | None = None

    def check(self) -> None:
        """Refuse a place that cannot be written, holds another data set, or is one that is read.

        Raises
        ------
        InputError
        """
        check_output_folder(self.root)
        for given in (self.raw, self.masks):
            if given is not None and os.path.realpath(given) == os.path.realpath(self.root):
                raise InputError(f"{self.root}: is a data set that is read; write to {given}/derivatives/{NAME}")
        description = self.root / DESCRIPTION
        if description.exists():
            made_by = load_json(description).get("GeneratedBy")
            names = (
                [each.get("Name") for each in made_by if isinstance(each, dict)] if isinstance(made_by, list) else []
            )
            if NAME not in names:
                raise InputError(f"{self.root}: holds a data set that {NAME} has not written; name another folder")

    def describe(self) -> None:
        """Write what says what the data set is; it may be done by several runs at once."""
        self.root.mkdir(parents=True, exist_ok=True)
        save_json(self._description(), self.root / DESCRIPTION)
        for name, text in ((".bidsignore", "".join(f"{each}\n" for each in _IGNORED)), ("README.md", _README)):
            path = self.root / name
            if not path.exists():
                with atomic_path(path) as temporary:
                    temporary.write_text(text, encoding="utf-8")

    def uri(self, name: str, of_mask: bool = False) -> str:
        """A file of one of the data sets, as BIDS names it."""
        return f"bids:{_MASKS if of_mask else _RAW}:{name}"

    def _description(self) -> dict[str, Any]:
        places = {_RAW: self.raw, _MASKS: self.masks}
        links = {name: self._link(place) for name, place in places.items() if place is not None}
        return {
            "Name": "Volumes reconstructed from stacks of slices",
            "BIDSVersion": _BIDS_VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [{"Name": NAME, "Version": __version__}],
            "DatasetLinks": {name: link for name, link in links.items() if link},
            "HowToAcknowledge": "Cite Dannecker et al., Fast and Explicit: Slice-to-Volume Reconstruction via 3D "
            "Gaussian Primitives with Analytic Point Spread Function Modeling, MIDL 2026 (PMLR 315)",
        }

    def _link(self, other: Path) -> str | None:
        """The way from here to another data set; None where it leads through folders of neither, whose names tell."""
        here, there, raw = (Path(os.path.realpath(path)) for path in (self.root, other, self.raw))
        if raw not in here.parents or not (there == raw or raw in there.parents):
            return None
        return Path(os.path.relpath(there, here)).as_posix()


@dataclass(frozen=True)
class Files:
    """What is written of an examination.

    Attributes
    ----------
    derivative : Derivative
    examination : Examination
    """

    derivative: Derivative
    examination: Examination

    @property
    def _stem(self) -> str:
        return f"{self.examination.prefix}_rec-{NAME}"

    @property
    def _folder(self) -> Path:
        return self.derivative.root / self.examination.folder

    @property
    def anat(self) -> Path:
        """Folder of the volumes."""
        return self._folder / "anat"

    @property
    def xfm(self) -> Path:
        """Folder of the transforms."""
        return self._folder / "xfm"

    @property
    def volume(self) -> Path:
        """The volume."""
        return self.anat / f"{self._stem}_T2w.nii.gz"

    @cached_property
    def _owned(self) -> re.Pattern[str]:
        return re.compile(rf"{re.escape(self.examination.prefix)}_.*", re.IGNORECASE | re.DOTALL)

    def are_of(self, content: str) -> bool:
        """Whether all is there, as it was written, for inputs, settings and a version of this hash."""
        stated = (self.anat / f"{self._stem}_T2w.json", self.xfm / f"{self._stem}_xfm.json")
        try:
            found = {load_json(path).get(CONTENT_HASH) for path in stated}
        except InputError:
            return False
        return found == {content} and is_intact(self.anat) and is_intact(self.xfm)

    def check(self) -> None:
        """Refuse to replace what is not as it was written.

        Raises
        ------
        InputError
        """
        for folder in (self.anat, self.xfm):
            check_output_folder(folder)
            check_owned(folder, self._owned)

    def write(self, result: Reconstruction, content: str) -> None:
        """Write everything; the volumes last, since they say that it is done."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with output_folder(self.xfm, self._owned) as folder:
            self._write_transforms(result, content, folder)
        with output_folder(self.anat, self._owned) as folder:
            self._write_volumes(result, content, folder)

    def _write_transforms(self, result: Reconstruction, content: str, folder: Path) -> None:
        from slicesplat.io.sidecar import stem_of
        from slicesplat.io.transforms import save_transform  # ITK is slow to import

        stems = [stem_of(run.path) for run in self.examination.runs]
        for record in result.slice_records():
            save_transform(folder / f"{stems[record.stack]}_slice{record.slice}.tfm", record.world_transform)
        if result.placement is not None:
            name = f"{self.examination.prefix}_from-scanner_to-standard_mode-image_xfm.tfm"
            save_transform(folder / name, result.placement.transform.matrix)
        save_json({CONTENT_HASH: content, **result.json()}, folder / f"{self._stem}_xfm.json")

    def _write_volumes(self, result: Reconstruction, content: str, folder: Path) -> None:
        about = self._about(result, content)
        mask = {"Description": "Where the volume shows the region", "Type": "Brain"}
        error = {"Description": "Standard error of every voxel, on the scale of the volume"}
        common = {key: about[key] for key in ("Sources", "SpatialReference")}
        written = [
            ("T2w", partial(save_volume, result.volume), about),
            ("desc-brain_mask", partial(save_volume, result.mask, dtype=np.uint8), mask),
        ]
        if result.uncertainty is not None:
            written.append(("desc-uncertainty_T2w", partial(save_volume, result.uncertainty), {**about, **error}))
        result.report(folder / f"{self._stem}_T2w.html")
        for name, save, sidecar in written:
            save(folder / f"{self._stem}_{name}.nii.gz")
            save_json({**common, **sidecar}, folder / f"{self._stem}_{name}.json")

    def _space(self, result: Reconstruction) -> str:
        """What the volume is aligned to: the scanner's space of a run, or a template."""
        if result.settings.orientation == "standard" and result.placement is not None:
            return f"template {result.placement.template}"
        return self.derivative.uri(self.examination.runs[result.reference].name)

    def _about(self, result: Reconstruction, content: str) -> dict[str, Any]:
        """The sidecar of the volume."""
        found, runs = result.json(), self.examination.runs
        masks = [run.mask for run in runs]
        of_masks = [
            self.derivative.uri(mask.relative_to(self.derivative.masks).as_posix(), of_mask=True)
            for mask in masks
            if mask is not None and self.derivative.masks is not None
        ]
        elsewhere = ("settings", "versions", "verdict", "slices", "steps")
        return {
            "Description": "Isotropic volume, reconstructed from stacks of slices with motion correction",
            "Sources": [*(self.derivative.uri(run.name) for run in runs), *of_masks],
            "SkullStripped": not result.settings.with_background,
            "SpatialReference": self._space(result),
            CONTENT_HASH: content,
            "Verdict": found["verdict"],
            "Settings": {key: value for key, value in found["settings"].items() if key not in WITHOUT_EFFECT},
            "Versions": found["versions"],
            "Reconstruction": {key: value for key, value in found.items() if key not in elsewhere},
        }
