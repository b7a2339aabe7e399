"""The library's settings as flags."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Literal

import tyro

from slicesplat.config import (
    CommonBiasSettings,
    Config,
    FitSettings,
    MaskSettings,
    RegistrationSettings,
    SampleSettings,
    UncertaintySettings,
    VerdictSettings,
)


@dataclass(frozen=True)
class Settings(Config):
    """The settings of a reconstruction, under the names that users of other tools know.

    Attributes
    ----------
    strategy : {lattice, primitives}
        What the volume is a sum of. lattice: round Gaussians on a lattice. primitives: fewer of them, each with a
        place, a size and a direction of its own.
    gaussians : int
        Most Gaussians that the volume may have. 0: as many as the slices ask for.
    """

    strategy: Annotated[Literal["lattice", "primitives"], tyro.conf.arg(name="field")] = "lattice"
    gaussians: int = 0
    resolution: Annotated[float, tyro.conf.arg(name="output-resolution")] = Config.resolution
    motion: Annotated[Literal["slices", "stack", "none"], tyro.conf.arg(name="registration")] = Config.motion
    # The command that writes what they are about asks for them.
    uncertainty: tyro.conf.Suppress[bool] = False
    orientation: tyro.conf.Suppress[Literal["scanner", "ras", "standard"]] = "scanner"
    template: tyro.conf.Suppress[str] = ""
    # The stages' own settings are for scripts: `slicesplat.Config`.
    common_bias: tyro.conf.Suppress[CommonBiasSettings] = field(default_factory=CommonBiasSettings)
    masks: tyro.conf.Suppress[MaskSettings] = field(default_factory=MaskSettings)
    registration: tyro.conf.Suppress[RegistrationSettings] = field(default_factory=RegistrationSettings)
    fit: tyro.conf.Suppress[FitSettings] = field(default_factory=FitSettings)
    sample: tyro.conf.Suppress[SampleSettings] = field(default_factory=SampleSettings)
    uncertainty_map: tyro.conf.Suppress[UncertaintySettings] = field(default_factory=UncertaintySettings)
    verdict: tyro.conf.Suppress[VerdictSettings] = field(default_factory=VerdictSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        fit = replace(self.fit, strategy=self.strategy, gaussians=self.gaussians)
        object.__setattr__(self, "fit", fit)  # as the generated initialiser of a frozen class does

    def plain(self) -> Config:
        """The same as the library has them: what is kept of them does not depend on where they were asked for."""
        return Config(**{each.name: getattr(self, each.name) for each in fields(Config)})
