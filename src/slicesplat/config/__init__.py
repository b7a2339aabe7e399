"""Settings of a reconstruction and of its stages: plain values, quick to import.

Every stage of the pipeline has its own frozen settings, nested in `Config`. A default has a measurement behind it,
where nothing else is said on the shared cases of `benchmarks/bench_accuracy.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from slicesplat.config.fit import (
    FitSettings,
)
from slicesplat.config.likelihood import (
    BiasFieldSettings,
    CommonBiasSettings,
    LikelihoodSettings,
    NoiseSettings,
)
from slicesplat.config.masks import (
    MaskSettings,
    OutlineSettings,
)
from slicesplat.config.output import (
    SampleSettings,
    UncertaintySettings,
)
from slicesplat.config.primitives import PrimitivesSettings
from slicesplat.config.registration import (
    COARSE_LEVELS,
    FINE_LEVELS,
    LEVELS_BEFORE_FIT,
    RELOCATION_LEVELS,
    WHOLE_STACK,
    Level,
    RecoverySettings,
    RegistrationSettings,
    RelocationSettings,
    StillnessSettings,
    TimePriorSettings,
)
from slicesplat.config.verdict import VerdictSettings

__all__ = [
    "COARSE_LEVELS",
    "FINE_LEVELS",
    "LEVELS_BEFORE_FIT",
    "RELOCATION_LEVELS",
    "RESOLUTIONS",
    "WHOLE_STACK",
    "BiasFieldSettings",
    "CommonBiasSettings",
    "Config",
    "FitSettings",
    "Level",
    "LikelihoodSettings",
    "MaskSettings",
    "NoiseSettings",
    "OutlineSettings",
    "PrimitivesSettings",
    "RecoverySettings",
    "RegistrationSettings",
    "RelocationSettings",
    "SampleSettings",
    "StillnessSettings",
    "TimePriorSettings",
    "UncertaintySettings",
    "VerdictSettings",
]

RESOLUTIONS = (0.1, 10.0)
"""Finest and coarsest voxels, mm, that an output may have."""


@dataclass(frozen=True)
class Config:
    """Settings of a reconstruction.

    Attributes
    ----------
    resolution : float
        Voxel size of the output volume, mm.
    interleave : int
        Packages that the slices were acquired in (2: first the even, then the odd slices). 0: detect it.
    slice_profile : {"gaussian", "box", "sinc"}
        Shape of the slice profile; its width is the slice thickness.
    bias_field_correction : bool
        Divide every stack by its bias field first, found by N4 inside its mask; then none is estimated in the model.
    estimate_bias_field : bool
        Estimate how unevenly coils light the stacks, together with everything else, where the data ask for it.
    with_background : bool
        Show what lies around the region too, as far as the slices saw it; nothing inside the mask changes.
    seed : int
        Seed of everything random; the same seed gives the same bytes.
    threads : int
        Threads to use. 0: all cores.
    device : {"auto", "cpu", "cuda"}
        Where to compute. auto: on a CUDA device where there is one, else on the CPU.
    motion : {"slices", "stack", "none"}
        What is moved: every slice by itself, every stack as one, or nothing: the poses are taken as they are given.
    keep_duplicates : bool
        Use stacks that show the acquisition of another one too; by default one of each such pair is left out.
    max_memory : float
        Memory that the work may take, GB of 10^9 bytes. 0: what the machine has available.
    uncertainty : bool
        Also estimate the standard error of every voxel, which takes about as long as the fit.
    orientation : {"scanner", "ras", "standard"}
        How the volume lies. scanner: along the scanner's axes, in its space. ras: in its space too, along the axes of
        the brain itself: to its right, its front and its top. standard: in the space of a template, where the slices
        are then as well.
    template : str
        A brain by itself, NIfTI, that standard space and the brain's axes are those of. Empty: the built-in fetal one
        of the age that fits best; a neonate gets the oldest.
    common_bias : CommonBiasSettings
        Of the bias field that all stacks share.
    masks : MaskSettings
        Of what masks are taken for, and of those that are carried over.
    registration : RegistrationSettings
        Of stacks and slices.
    fit : FitSettings
        Of the joint estimate.
    sample : SampleSettings
        Of the output.
    uncertainty_map : UncertaintySettings
        Of the standard error.
    verdict : VerdictSettings
        Of what speaks against the result.
    """

    resolution: float = 0.8
    interleave: int = 0
    slice_profile: Literal["gaussian", "box", "sinc"] = "gaussian"
    bias_field_correction: bool = False
    estimate_bias_field: bool = True
    with_background: bool = False
    seed: int = 0
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    motion: Literal["slices", "stack", "none"] = "slices"
    keep_duplicates: bool = False
    max_memory: float = 0.0
    uncertainty: bool = False
    orientation: Literal["scanner", "ras", "standard"] = "scanner"
    template: str = ""
    common_bias: CommonBiasSettings = field(default_factory=CommonBiasSettings)
    masks: MaskSettings = field(default_factory=MaskSettings)
    registration: RegistrationSettings = field(default_factory=RegistrationSettings)
    fit: FitSettings = field(default_factory=FitSettings)
    sample: SampleSettings = field(default_factory=SampleSettings)
    uncertainty_map: UncertaintySettings = field(default_factory=UncertaintySettings)
    verdict: VerdictSettings = field(default_factory=VerdictSettings)

    @property
    def models_bias_field(self) -> bool:
        """Whether bias fields may be estimated: not beside N4, nor where numbers mean the same in all stacks."""
        return self.estimate_bias_field and not self.bias_field_correction and self.fit.likelihood.gains

    def __post_init__(self) -> None:
        finest, coarsest = RESOLUTIONS
        if not finest <= self.resolution <= coarsest:
            raise ValueError(
                f"output resolution {self.resolution} mm: give a voxel size between {finest:g} and {coarsest:g} mm"
            )
        if self.interleave < 0:
            raise ValueError(f"interleave {self.interleave}: give the number of packages, or 0 to detect it")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: give zero or a positive number")
        if not self.max_memory >= 0:
            raise ValueError(f"max memory {self.max_memory} GB: give a positive number, or 0 for what is available")
        if self.template and self.orientation == "scanner":
            raise ValueError(f"template {self.template}: is for an orientation of ras or standard; ask for one of them")
        if self.threads < 0:
            raise ValueError(f"threads {self.threads}: give a number of threads, or 0 for all cores")
