"""The library's settings as flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from slicesplat.config import Config


@dataclass(frozen=True)
class Settings(Config):
    """The settings of a reconstruction, under the names that users of other tools know."""

    resolution: Annotated[float, tyro.conf.arg(name="output-resolution")] = Config.resolution
    uncertainty: tyro.conf.Suppress[bool] = False  # the command that writes it asks for it
