"""Settings of a reconstruction: plain values, quick to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
        Divide every stack by its bias field first, found by N4 inside its mask.
    with_background : bool
        Show what lies around the region too, as far as the slices saw it; nothing inside the mask changes.
    seed : int
        Seed of everything random; the same seed gives the same bytes.
    threads : int
        Threads to use. 0: all cores.
    device : {"auto", "cpu", "cuda"}
        Where to compute. auto: on a CUDA device where there is one, else on the CPU.
    keep_duplicates : bool
        Use stacks that show the acquisition of another one too; by default one of each such pair is left out.
    max_memory : float
        Memory that the work may take, GB of 10^9 bytes. 0: what the machine has available.
    uncertainty : bool
        Also estimate the standard error of every voxel, which takes about as long as the fit.
    """

    resolution: float = 0.8
    interleave: int = 0
    slice_profile: Literal["gaussian", "box", "sinc"] = "gaussian"
    bias_field_correction: bool = False
    with_background: bool = False
    seed: int = 0
    threads: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    keep_duplicates: bool = False
    max_memory: float = 0.0
    uncertainty: bool = False

    def __post_init__(self) -> None:
        if not 0.1 <= self.resolution <= 10:
            raise ValueError(f"output resolution {self.resolution} mm: give a voxel size between 0.1 and 10 mm")
        if self.interleave < 0:
            raise ValueError(f"interleave {self.interleave}: give the number of packages, or 0 to detect it")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: give zero or a positive number")
        if not self.max_memory >= 0:
            raise ValueError(f"max memory {self.max_memory} GB: give a positive number, or 0 for what is available")
        if self.threads < 0:
            raise ValueError(f"threads {self.threads}: give a number of threads, or 0 for all cores")
