"""A model that was made up: a field with structure in a ball."""

from __future__ import annotations

import numpy as np
import torch

from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import LATTICE_SUM, Lattice
from slicesplat.io.model import Model

RADIUS = 14.0  # mm


def ball(spacing: float, radius: float = RADIUS) -> Lattice:
    cells = torch.tensor(np.argwhere(np.ones((41, 41, 41))) - 20, dtype=torch.int32)
    return Lattice(spacing, cells[(cells.double() * spacing).norm(dim=1) < radius])


def made_up(**changed: object) -> Model:
    fine, coarse = ball(2.0), ball(3.0, RADIUS + 8)
    x, y, z = fine.means().T
    field = fine.field((0.6 + 0.2 * torch.sin(x / 3) * torch.cos(y / 4) + 0.01 * z) / LATTICE_SUM)
    inside = (coarse.means().norm(dim=1) < RADIUS).float() / LATTICE_SUM
    settings: dict[str, object] = {"scale": 800.0, "resolution": 1.5, **changed}
    return Model(field, coarse.field(inside), **settings)  # type: ignore[arg-type]


def one_gaussian(amplitude: float = 1.0) -> GaussianField:
    return GaussianField(
        torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.tensor([amplitude])
    )
