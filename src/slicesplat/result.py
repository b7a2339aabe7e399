"""What a registration and a reconstruction give."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from slicesplat.config import Config
from slicesplat.estimate.agreement import Agreement
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.slices import Slices
from slicesplat.geometry.stack import Stack
from slicesplat.prepare.intensity import Intensities
from slicesplat.progress import StepRecord
from slicesplat.splat import predict

USED_WEIGHT = 0.1  # a slice with less is reported as left out


@dataclass(eq=False)
class Registration:
    """Poses of all slices, and how they came about.

    Attributes
    ----------
    slices : Slices
        With the estimated poses.
    weight, gain, ncc : (S,)
        Trust (0: left out), intensity over the field's, correlation with the prediction.
    reference : int
        The stack whose scanner space everything is in.
    settings, steps
        What was asked for; seconds and peak memory of each step.
    dropout : (S,) bool
        Slices that had lost their signal before anything was registered.
    device : str
        Where it was computed: "cpu" or "cuda".
    stacks : sequence of Stack
        What the slices come from, on the scale of the input; without their bias fields if that was asked for.
    intensities : Intensities
        How the scale of the input and the one that was worked with belong together.
    agreement : list of Agreement
        How every stack agrees with what the others show.
    copies : dict
        Stacks that were left out because they show the acquisition of another one, each with that one. Stacks count as
        they were given.
    """

    slices: Slices
    weight: NDArray[np.float64]
    gain: NDArray[np.float64]
    ncc: NDArray[np.float64]
    reference: int
    settings: Config
    steps: list[StepRecord]
    dropout: NDArray[np.bool_]
    device: str
    stacks: Sequence[Stack]
    intensities: Intensities
    agreement: list[Agreement]
    copies: dict[int, int] = field(default_factory=dict, kw_only=True)

    def left_out(self) -> list[str | None]:
        """Why each slice was left out; None for one that was used."""
        return [
            None
            if weight >= USED_WEIGHT
            else "signal dropout"
            if lost
            else "no match"
            if weight == 0
            else "large residual"
            for weight, lost in zip(self.weight, self.dropout, strict=True)
        ]

    def slice_records(self) -> list[dict[str, Any]]:
        """For every slice: stack, slice, world_transform (4, 4), weight, gain, ncc, and why it was left out or None."""
        reasons = self.left_out()
        return [
            {
                "stack": int(self.slices.stack[s]),
                "slice": int(self.slices.index[s]),
                "world_transform": transform.tolist(),
                "weight": round(float(self.weight[s]), 4),
                "gain": round(float(self.gain[s]), 4),
                "ncc": round(float(self.ncc[s]), 4),
                "left_out": reasons[s],
            }
            for s, transform in enumerate(self.slices.motion.matrix)
        ]

    def json(self) -> dict[str, Any]:
        """Settings, versions, time and memory of each step, and every slice."""
        packages = ("slicesplat", "torch", "numba", "numpy", "nibabel")
        return {
            "settings": asdict(self.settings),
            "device": self.device,
            "versions": {
                "python": platform.python_version(),
                **{name: importlib.metadata.version(name) for name in packages},
            },
            "steps": [step.json() for step in self.steps],
            "reference_stack": self.reference,
            "stack_agreement": [round(seen.ncc, 4) for seen in self.agreement],
            "copies": [{"stack": copy, "copy_of": original} for copy, original in self.copies.items()],
            "slices": self.slice_records(),
        }


@dataclass(eq=False)
class Reconstruction(Registration):
    """A reconstructed volume, and how it came about.

    Attributes
    ----------
    volume : nibabel image
        Isotropic, on the intensity scale of the input. Outside `mask` it holds what the input holds where there is no
        signal, zero as a rule, unless the background was asked for.
    mask : nibabel image
        Where the motion-corrected masks say that the region is.
    field : GaussianField
        The volume inside `mask` as Gaussians: the signal on the scale of the input, without an offset if that has one.
    noise : float
        Standard deviation of the residuals, on the scale of the input.
    expected_error : float
        Root-mean-square error at pixels that were left out of the fit, noise included, on the scale of the input.
    uncertainty : nibabel image or None
        Standard error of every voxel of `volume`, on the scale of the input, zero outside `mask`; the spread of the
        anatomy where nothing was measured. None unless it was asked for.
    """

    volume: nib.Nifti1Image
    mask: nib.Nifti1Image
    field: GaussianField
    noise: float
    expected_error: float
    uncertainty: nib.Nifti1Image | None = None

    def simulated(self) -> list[Stack]:
        """The stacks as the field predicts them, gains included: on the scale of the input, zero around the masks."""
        stacks = [replace(stack, data=np.zeros_like(stack.data)) for stack in self.stacks]
        image, known = predict(self.field, self.slices, self.gain).numpy(), self.intensities
        for s, number in enumerate(self.slices.stack):
            crop = self.slices.image(image, s)
            row, column = self.slices.corner[s]
            plane = stacks[number].data[:, :, self.slices.index[s]]
            crop = crop / (known.factor[number] * known.unit)
            plane[row : row + crop.shape[0], column : column + crop.shape[1]] = crop
        return [known.on_input_scale(stack, number) for number, stack in enumerate(stacks)]

    def json(self) -> dict[str, Any]:
        """As for a registration, and the number of Gaussians, the noise and the expected error."""
        out = super().json()
        slices = out.pop("slices")
        found = {"gaussians": len(self.field), "noise": self.noise, "expected_error": self.expected_error}
        offset = self.intensities.common_offset
        return {**out, **found, **({"intensity_offset": offset} if offset else {}), "slices": slices}
