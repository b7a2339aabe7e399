"""What a registration and a reconstruction give."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray

from slicesplat.config import Config
from slicesplat.evidence.consistency import UNKNOWN as NOT_COMPARED
from slicesplat.evidence.consistency import Consistency
from slicesplat.evidence.faces import flat_share
from slicesplat.evidence.verdict import Evidence, StackEvidence, judge
from slicesplat.field.gaussians import GaussianField
from slicesplat.geometry.placement import Placement
from slicesplat.geometry.rigid import Rigid
from slicesplat.geometry.slices import Slices
from slicesplat.geometry.stack import Stack
from slicesplat.io.model import Model
from slicesplat.motion.agreement import UNKNOWN, Agreement
from slicesplat.motion.relocate import StackSearch
from slicesplat.prepare.intensity import Intensities
from slicesplat.progress import StepRecord
from slicesplat.records import USED_WEIGHT, BiasRecord, SliceRecord, SweepRecord, Verdict, mask_confidence
from slicesplat.splat import predict
from slicesplat.version import __version__

if TYPE_CHECKING:
    from typing_extensions import Self

_PACKAGES = ("torch", "numba", "numpy", "nibabel")
"""Versions of these are part of a result."""


@dataclass(frozen=True, eq=False, repr=False)
class Registration:
    """Poses of all slices, and how they came about.

    Attributes
    ----------
    slices : Slices
        With the estimated poses.
    weight, gain, ncc : (S,)
        Trust (0: left out), intensity over the field's, correlation with the prediction.
    standard_error : (S,)
        Of the poses, mm: root mean square over a slice's pixels; NaN where slices were not moved by themselves.
    held : (S,) bool
        Slices that are where their neighbours in time are: what they show does not say where they belong.
    reference : int
        The stack whose scanner space everything is in.
    settings : Config
        What was asked for.
    steps : sequence of StepRecord
        Seconds and peak memory of each step.
    dropout : (S,) bool
        Slices that had lost their signal before anything was registered.
    device : str
        Where it was computed: "cpu" or "cuda".
    stacks : sequence of Stack
        What the slices come from, on the scale of the input; without their bias fields if N4 was asked for, and without
        the one that they all share if there was one.
    intensities : Intensities
        How the scale of the input and the one that was worked with belong together.
    agreement : list of Agreement
        How every stack agrees with what the others show.
    searches : sequence of StackSearch
        Stacks that did not agree with the others where they were first put, and were searched over all rotations.
    copies : dict
        Stacks that were left out because they show the acquisition of another one, each with that one. Stacks count as
        they were given.
    bias : list of BiasRecord
        How unevenly every stack was lit.
    warnings : tuple of str
        What was to be looked at, told while it was made.

    Raises
    ------
    ValueError
        `weight`, `gain`, `ncc`, `standard_error`, `held` or `dropout` is not one number for each slice, or a slice is
        of a stack that is not there.
    """

    slices: Slices
    weight: NDArray[np.float64]
    gain: NDArray[np.float64]
    ncc: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    held: NDArray[np.bool_]
    reference: int
    settings: Config
    steps: Sequence[StepRecord]
    dropout: NDArray[np.bool_]
    device: str
    stacks: Sequence[Stack]
    intensities: Intensities
    agreement: Sequence[Agreement]
    searches: Sequence[StackSearch] = field(default=(), kw_only=True)
    copies: dict[int, int] = field(default_factory=dict, kw_only=True)
    bias: Sequence[BiasRecord] = field(default=(), kw_only=True)
    warnings: Sequence[str] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        for name in ("weight", "gain", "ncc", "standard_error", "held", "dropout"):
            if np.shape(getattr(self, name)) != (len(self.slices),):
                raise ValueError(f"{name} of shape {np.shape(getattr(self, name))} for {len(self.slices)} slices")
        if max(self.reference, *self.slices.stack, 0) >= len(self.stacks):
            raise ValueError(f"slices of more than the {len(self.stacks)} stacks that are given")

    def __repr__(self) -> str:
        return f"Registration({self._counts()})"

    @property
    def poses(self) -> Rigid:
        """Of each slice (S), from where the scanner put its pixels to where they belong, mm RAS+."""
        return self.slices.motion

    @property
    def slice_weights(self) -> NDArray[np.float64]:
        """(S,) trust in each slice, 0 to 1; below `records.USED_WEIGHT` it counts as left out."""
        return self.weight

    def left_out(self) -> list[str | None]:
        """Why each slice was left out; None for one that was used."""
        return [record.left_out for record in self.slice_records()]

    def slice_records(self) -> list[SliceRecord]:
        """Every slice: its place in the input, where it belongs, weight, gain and NCC, and why it was left out."""
        return [
            SliceRecord(
                stack=int(self.slices.stack[s]),
                slice=int(self.slices.index[s]),
                world_transform=transform,
                weight=float(self.weight[s]),
                gain=float(self.gain[s]),
                ncc=float(self.ncc[s]),
                standard_error=float(self.standard_error[s]),
                held=bool(self.held[s]),
                left_out=_why_left_out(self.weight[s], self.dropout[s]),
            )
            for s, transform in enumerate(self.poses.matrix)
        ]

    def counted(self, given: Sequence[Stack], numbers: Sequence[int]) -> Self:
        """The same with its stacks counted as they were given, where some of them were left out before.

        Parameters
        ----------
        given : sequence of Stack
            All of them.
        numbers : sequence of int
            Places among them of the stacks that there are here.
        """
        stacks, agreement, places = list(given), [UNKNOWN] * len(given), np.array(numbers, np.int32)
        for number, stack, seen in zip(numbers, self.stacks, self.agreement, strict=True):
            stacks[number], agreement[number] = stack, seen
        return replace(
            self,
            slices=replace(self.slices, stack=places[self.slices.stack]),
            reference=numbers[self.reference],
            stacks=stacks,
            agreement=agreement,
            intensities=self.intensities.counted(numbers, len(given)),
            searches=[replace(search, stack=numbers[search.stack]) for search in self.searches],
            copies={numbers[copy]: numbers[original] for copy, original in self.copies.items()},
            bias=[replace(seen, stack=numbers[seen.stack]) for seen in self.bias],
        )

    def _counts(self) -> str:
        used = sum(weight >= USED_WEIGHT for weight in self.weight)
        return f"{len(self.stacks)} stacks, {used} of {len(self.slices)} slices used, on {self.device}"

    def json(self) -> dict[str, Any]:
        """Settings, versions, time and memory of each step, and every slice."""
        return {
            "settings": {**asdict(self.settings), "template": Path(self.settings.template).name},  # no user's folders
            "device": self.device,
            "versions": {
                "python": platform.python_version(),
                "slicesplat": __version__,
                **{name: importlib.metadata.version(name) for name in _PACKAGES},
            },
            "steps": [step.json() for step in self.steps],
            "reference_stack": self.reference,
            "stack_agreement": [round(seen.ncc, 4) for seen in self.agreement],
            "stack_searches": [search.json() for search in self.searches],
            "copies": [{"stack": copy, "copy_of": original} for copy, original in self.copies.items()],
            "bias_fields": [seen.json() for seen in self.bias],
            "slices": [record.json() for record in self.slice_records()],
            **self._masks(),
        }

    def _masks(self) -> dict[str, Any]:
        """Of masks that the network found, for each stack, how sure it is in each slice."""
        if all(stack.found is None for stack in self.stacks):
            return {}
        return {"mask_confidence": [mask_confidence(stack.found) for stack in self.stacks]}


@dataclass(frozen=True, eq=False, repr=False)
class Reconstruction(Registration):
    """A reconstructed volume, and how it came about.

    Attributes
    ----------
    volume : nibabel image
        Isotropic, on the intensity scale of the input. Outside `mask` it holds what the input holds where there is no
        signal, zero as a rule, unless the background was asked for.
    mask : nibabel image
        Where the motion-corrected masks say that the region is.
    model : Model
        The volume as Gaussians, with what sampling it again needs: `sample_volume`, `save_model`.
    noise : float
        Standard deviation of the residuals, on the scale of the input.
    expected_error : float
        Root-mean-square error at pixels that were left out of the fit, noise included, on the scale of the input; 0
        where there were too few to leave any out.
    uncertainty : nibabel image or None
        Standard error of every voxel of `volume`, on the scale of the input, zero outside `mask`; the spread of the
        anatomy where nothing was measured. None unless it was asked for.
    placement : Placement or None
        How the brain lies in standard space. None where the orientation is the scanner's.
    lit : (P,) float32 or None
        The bias field of the model at every pixel of the slices, whose pixels are without it; None where there is none.
    consistency : sequence of Consistency
        What every stack would look like if it showed the volume, by its number; empty where that was not computed.
    sweeps : sequence of SweepRecord
        The error after every sweep of the fit.
    """

    volume: nib.Nifti1Image
    mask: nib.Nifti1Image
    model: Model
    noise: float
    expected_error: float
    uncertainty: nib.Nifti1Image | None = None
    placement: Placement | None = None
    lit: NDArray[np.float32] | None = None
    consistency: Sequence[Consistency] = ()
    sweeps: Sequence[SweepRecord] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("mask", "uncertainty"):
            image = getattr(self, name)
            if image is not None and image.shape != self.volume.shape:
                raise ValueError(f"{name} of shape {image.shape} for a volume of {self.volume.shape}")

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.volume.shape))
        spacing = float(self.volume.header.get_zooms()[0])
        return (
            f"Reconstruction({size} voxels of {spacing:.3g} mm, {len(self.field)} Gaussians, "
            f"noise {self.noise:.3g}, {self._counts()})"
        )

    @cached_property
    def field(self) -> GaussianField:
        """The volume inside `mask` as Gaussians: on the scale of the input, without the offset that it may have."""
        unscaled = self.model.field
        return replace(unscaled, amplitudes=torch.nan_to_num(unscaled.amplitudes * self.model.brightest))

    @cached_property
    def evidence(self) -> Evidence:
        """What is known of the reconstruction without the truth."""
        used, possible = self.weight >= USED_WEIGHT, self.consistency or [NOT_COMPARED] * len(self.stacks)
        stacks = []
        for number, (seen, best) in enumerate(zip(self.agreement, possible, strict=True)):
            own = self.slices.stack == number
            lost = int((own & ~used).sum())
            thick = self.stacks[number].thickness / float(self.stacks[number].spacing[2])
            compared = (best.ncc, best.excess, thick, best.thinner, best.mirror_lead)
            stacks.append(StackEvidence(int(own.sum()), lost, seen.ncc, seen.least, *compared))
        known = self.standard_error[used & np.isfinite(self.standard_error)]
        inside = np.asarray(self.mask.dataobj) > 0
        values = np.asarray(self.volume.dataobj)[inside]
        return Evidence(
            stacks,
            pose_error=float(np.median(known)) if len(known) else math.nan,
            flat_share=flat_share(inside, float(self.mask.header.get_zooms()[0])),
            contrast=float(values.std(dtype=np.float64)) / self.noise if values.size and self.noise > 0 else math.nan,
        )

    @property
    def verdict(self) -> Verdict:
        """Whether it can be believed, and why not: `evidence.verdict`."""
        return judge(self.evidence, self.settings.verdict)

    def counted(self, given: Sequence[Stack], numbers: Sequence[int]) -> Self:
        """As of a registration."""
        if self.consistency:
            seen = dict(zip(numbers, self.consistency, strict=True))
            every = [seen.get(number, NOT_COMPARED) for number in range(len(given))]
            return super(Reconstruction, replace(self, consistency=every)).counted(given, numbers)
        return super().counted(given, numbers)

    def simulated(self) -> list[Stack]:
        """The stacks as the field predicts them, with gains and bias fields of the model: on the scale of the input.

        Zero around the masks.
        """
        stacks = [replace(stack, data=np.zeros_like(stack.data)) for stack in self.stacks]
        image, known = predict(self.field, self.slices, self.gain).numpy(), self.intensities
        image = image if self.lit is None else image * self.lit
        volumes = [stack.data for stack in stacks]
        for s, number in enumerate(self.slices.stack):
            self.slices.put(s, self.slices.image(image, s) / (known.factor[number] * known.unit), volumes)
        return [known.on_input_scale(stack, number) for number, stack in enumerate(stacks)]

    def report(self, path: str | os.PathLike[str], command: Sequence[str] = ()) -> None:
        """Write a page that shows the volume, every stack and every slice, and what is to be looked at.

        It is one file that needs nothing else: no program but a browser, no network.

        Parameters
        ----------
        path : path-like
            Ends in .html.
        command : sequence of str, optional
            The command line to repeat it, to be shown; folders are left out.
        """
        from slicesplat.report.of_result import contents_of  # seldom asked for, and slow to import
        from slicesplat.report.page import save_page

        save_page(contents_of(self, command), path)

    def json(self) -> dict[str, Any]:
        """As for a registration, and the verdict, the number of Gaussians, the noise and the expected error."""
        out = super().json()
        slices = out.pop("slices")
        found = {
            "verdict": self.verdict.json(),
            "gaussians": len(self.field),
            "noise": self.noise,
            "expected_error": self.expected_error,
        }
        offset = self.intensities.common_offset
        placed = {} if self.placement is None else {"standard_space": self.placement.json()}
        return {**out, **found, **placed, **({"intensity_offset": offset} if offset else {}), "slices": slices}


def _why_left_out(weight: float, lost: bool) -> str | None:
    """The reason for a weight below `USED_WEIGHT`; None for one above."""
    if weight >= USED_WEIGHT:
        return None
    if lost:
        return "signal dropout"
    return "no match" if weight == 0 else "large residual"
