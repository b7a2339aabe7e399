"""``slicesplat reconstruct``: stacks in, volume out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import nibabel as nib
import numpy as np
import torch
import tyro
from nibabel.affines import apply_affine
from rich.console import Console
from scipy.ndimage import map_coordinates

from slicesplat.commands.base import OptionalPath, ProgressDisplay, log
from slicesplat.commands.settings import Settings
from slicesplat.commands.slices import SlicesCommand
from slicesplat.commands.summary import summarise
from slicesplat.config import Config
from slicesplat.errors import InputError, VerdictError
from slicesplat.geometry.rigid import Rigid
from slicesplat.io.files import save_json
from slicesplat.io.model import save_model
from slicesplat.io.nifti import save_volume
from slicesplat.io.outputs import Outputs
from slicesplat.io.ply import save_ply
from slicesplat.io.result_files import FILES, Names, named_files
from slicesplat.io.slices import SLICE_FILES, save_slices
from slicesplat.io.templates import load_template
from slicesplat.notices import kept_warnings
from slicesplat.pipeline import reconstruct
from slicesplat.pipeline.setup import numbers_with_a_region
from slicesplat.prepare.choose import Choice, RankedStack, log_excluded, rank
from slicesplat.result import Reconstruction

if TYPE_CHECKING:
    from slicesplat.report.snapshots import Snapshots


@dataclass(frozen=True, kw_only=True)
class Command(SlicesCommand):
    """Reconstruct a volume from stacks of slices.

    Attributes
    ----------
    output_volume : path
        The volume to write, .nii or .nii.gz.
    output_slices : path
        Folder for the motion-corrected slices, 0.nii.gz, mask_0.nii.gz and so on: the pose is in each affine.
    output_uncertainty : path
        The standard error of every voxel, .nii or .nii.gz, on the volume's scale; takes about as long as the fit.
    simulated_slices : path
        Folder for the same slices as the volume predicts them, numbered alike, gains included.
    output_model : path
        The volume as Gaussians: .safetensors, for sample-volume and sample-slices, or .ply, for viewers of Gaussian
        splats.
    output_json : path
        Settings, time and memory of each step, and the pose, weight and gain of each slice.
    output_report : path
        A page to look at, .html, one file that needs no network: the volume in a viewer, each stack beside what the
        volume predicts for it, the motion of every slice, and the verdict with what to do.
    snapshots : path
        Folder for a picture of the volume after every step of the fit, 0001.png and so on, for slicesplat animate. They
        are written while it runs; those of a run that is ended stay.
    output_transform : path
        From scanner space to standard space, as an ITK transform, .tfm; with --orientation ras or standard.
    orientation : {scanner, ras, standard}
        How the volume lies. scanner: along the scanner's axes, in its space. ras: in its space too, along the brain's
        own axes: to its right, its front and its top. standard: in the space of a template, and the slices with it.
    template : path
        A brain by itself, NIfTI, whose space is the standard one. None: a built-in fetal brain, of the age that fits
        best; a neonate gets the oldest.
    output_intensity_mean : float
        Mean intensity that the volume, and with it the map of its errors, is to have inside its mask. None: the
        stacks' scale.
    transformation_optimization : bool
        Refine the slices' poses together with the volume; without, they stay where the registration puts them.
    pixel_variance : bool
        Pixels far from the volume lose weight; without, all pixels of a slice count alike.
    slice_variance : bool
        Slices far from the volume, and stacks of more noise, lose weight; without, all slices that match count alike.
    strict : bool
        End with exit status 3 where the verdict on the volume is fail; everything is written all the same.
    choice : Choice
        What the stacks are ranked by, and which are left out.
    config : Settings
        Settings of the reconstruction.
    """

    output_volume: Path
    output_slices: OptionalPath = None
    output_uncertainty: OptionalPath = None
    simulated_slices: OptionalPath = None
    output_model: OptionalPath = None
    output_json: OptionalPath = None
    output_report: OptionalPath = None
    snapshots: OptionalPath = None
    output_transform: OptionalPath = None
    orientation: Literal["scanner", "ras", "standard"] = "scanner"
    template: OptionalPath = None
    output_intensity_mean: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    transformation_optimization: bool = True
    pixel_variance: bool = True
    slice_variance: bool = True
    strict: bool = False
    choice: Annotated[Choice, tyro.conf.arg(name="")] = field(default_factory=Choice)
    config: Annotated[Settings, tyro.conf.arg(name="")] = field(default_factory=Settings)

    def execute(self, console: Console) -> None:
        """Check, reconstruct, write."""
        outputs = self.outputs()
        outputs.add_file(self.output_volume, suffixes=(".nii", ".nii.gz"))
        outputs.add_folder(self.output_slices, SLICE_FILES)
        outputs.add_file(self.output_uncertainty, suffixes=(".nii", ".nii.gz"))
        outputs.add_folder(self.simulated_slices, SLICE_FILES)
        outputs.add_file(self.output_model, suffixes=(".safetensors", ".ply"))
        outputs.add_file(self.output_json, suffixes=(".json",))
        outputs.add_file(self.output_report, suffixes=(".html",))
        outputs.add_file(self.output_transform, suffixes=(".tfm",))
        watch = None
        if self.snapshots:
            # Drawing takes a while to import.
            from slicesplat.report.snapshots import SNAPSHOT_FILES, Snapshots

            outputs.add_folder(self.snapshots, SNAPSHOT_FILES)
            watch = Snapshots(self.snapshots)
        self._check_mean()
        self._check_orientation()
        with kept_warnings() as told:
            result, ranked = self._reconstructed(console, watch)
        factor = 1.0 if self.output_intensity_mean is None else self._factor(result.volume, result.mask)
        with outputs.writing() as write:
            write(self.output_volume, partial(save_volume, _scaled(result.volume, factor)))
            if self.output_uncertainty and result.uncertainty:
                write(self.output_uncertainty, partial(save_volume, _scaled(result.uncertainty, factor)))
            write(self.output_slices, lambda path: save_slices(path, result.stacks, result.slice_records()))
            write(self.simulated_slices, lambda path: save_slices(path, result.simulated(), result.slice_records()))
            if self.output_transform and result.placement:
                write(self.output_transform, partial(_save_transform, result.placement.transform))
            write(self.output_model, partial(_save_model, result))
            ranking = {"ranking": [asdict(seen) for seen in ranked]} if ranked else {}
            write(self.output_json, lambda path: save_json({**result.json(), **ranking, FILES: self._files()}, path))
            if watch:
                write(self.snapshots, watch.check_written)
            write(self.output_report, lambda path: replace(result, warnings=told).report(path, self.given))
        summarise(result, console)
        if self.strict and result.verdict.grade == "fail":
            raise VerdictError("the verdict on the volume is fail, and --strict is given; everything was written")

    def _reconstructed(self, console: Console, watch: Snapshots | None) -> tuple[Reconstruction, list[RankedStack]]:
        """What the stacks give, and how they were ranked."""
        stacks = self.load_stacks()
        shown = numbers_with_a_region(stacks)
        ranked = [replace(seen, stack=shown[seen.stack]) for seen in rank([stacks[n] for n in shown], self.choice)]
        log_excluded(stacks, ranked, self.choice)
        excluded = {seen.stack for seen in ranked if seen.excluded}
        used = [number for number in shown if number not in excluded]
        with ProgressDisplay(console) as progress:
            chosen = [stacks[number] for number in used]
            result = reconstruct(chosen, self._settings(), progress=progress, watch=watch)
        return result.counted(stacks, used) if len(used) < len(stacks) else result, ranked

    def _files(self) -> Names:
        """What the JSON belongs to, for `slicesplat view`."""
        stacks = [path for path in self.stack_files if path.name.lower().endswith((".nii", ".nii.gz"))]
        return named_files(volume=self.output_volume, uncertainty=self.output_uncertainty, stacks=stacks)

    def _settings(self) -> Config:
        """The settings that the flags ask for."""
        fit, likelihood = self.config.fit, self.config.fit.likelihood
        if not self.pixel_variance:
            likelihood = replace(likelihood, pixel_limit=math.inf)
        if not self.slice_variance:
            likelihood = replace(likelihood, slice_limit=math.inf)
        steps = fit.pose_steps if self.transformation_optimization else 0
        fit = replace(fit, likelihood=likelihood, pose_steps=steps)
        return replace(
            self.config.plain(),
            fit=fit,
            uncertainty=self.output_uncertainty is not None,
            orientation=self.orientation,
            template="" if self.template is None else str(self.template),
        )

    def outputs(self) -> Outputs:
        """What the command is to write: no input, and no template either."""
        return super().outputs() if self.template is None else super().outputs().reading(self.template)

    def _check_orientation(self) -> None:
        """Refuse what only makes sense in another space, and a template that is none, before any work."""
        if self.template is not None:
            if self.orientation == "scanner":
                raise InputError(
                    f"{self.template}: a template is for --orientation ras or standard; ask for one of them"
                )
            load_template(self.template)
        if self.output_transform is not None and self.orientation == "scanner":
            raise InputError(
                f"{self.output_transform}: nothing is moved in scanner space; ask for --orientation ras or standard"
            )

    def _check_mean(self) -> None:
        mean = self.output_intensity_mean
        if mean is not None and not (math.isfinite(mean) and mean > 0):
            raise InputError(f"--output-intensity-mean {mean:g}: is no intensity; give a positive number")

    def _factor(self, volume: nib.Nifti1Image, mask: nib.Nifti1Image) -> float:
        """What brings the mean inside the mask to the one that was asked for."""
        assert self.output_intensity_mean is not None
        found = float(np.mean(np.asarray(volume.dataobj)[np.asarray(mask.dataobj) > 0], dtype=np.float64))
        if not found > 0:
            log.warning(
                "--output-intensity-mean: the volume's mean is %.4g, not above zero; it is left as it is", found
            )
            return 1.0
        return self.output_intensity_mean / found


def _save_model(result: Reconstruction, path: Path) -> None:
    """The Gaussians, in the layout that the file's name asks for."""
    if path.suffix.lower() != ".ply":
        save_model(result.model, path)
        return
    field, volume = result.model.field, result.volume
    place = apply_affine(np.linalg.inv(volume.affine), field.means.double().cpu().numpy())
    values = np.asarray(volume.dataobj, np.float64)
    brightness = map_coordinates(values, place.T, order=1) / max(values.max(), 1e-9)
    save_ply(field, torch.from_numpy(brightness).float(), path)


def _save_transform(transform: Rigid, path: Path) -> None:
    from slicesplat.io.transforms import save_transform  # ITK is slow to import

    save_transform(path, transform.matrix)


def _scaled(image: nib.Nifti1Image, factor: float) -> nib.Nifti1Image:
    """The image itself where there is nothing to change."""
    if factor == 1.0:
        return image
    return nib.Nifti1Image((np.asarray(image.dataobj) * factor).astype(np.float32), image.affine)
