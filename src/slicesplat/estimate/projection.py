"""A field as fewer Gaussians, each with a place, a size and a direction of its own: the nearest in the mean square.

    minimise over means, log scales, rotations and amplitudes   integral over the region of (V - V*)^2

V* is the field of a lattice: a posterior mode, smooth where its prior says so, so that the shapes follow the anatomy
and not the noise. For shapes as they are the amplitudes are solved for (variable projection: Golub and Pereyra, SIAM
Journal on Numerical Analysis 10, 1973, 413-432), here by conjugate gradients from where they were; the shapes follow
the exact gradient by Adam (Kingma and Ba, ICLR 2015). The integral is a sum over the points of a grid, and the grid
lies elsewhere in every step: what was fitted to one grid alone hides between its points. docs/method.md, Field
strategies.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from slicesplat.config import PrimitivesSettings
from slicesplat.field.gaussians import GaussianField
from slicesplat.field.lattice import BRIDGED, lattice_over
from slicesplat.field.mixture import energies, merge, split
from slicesplat.geometry.slices import Slices
from slicesplat.solvers.amplitudes import AmplitudeSolver, resampled_amplitudes
from slicesplat.splat import CPU, Backend, set_geometry
from slicesplat.splat.grid import lattice_planes, pixels_of_cells

_CUTOFF = 3.5
"""Standard deviations to which a Gaussian is followed here: where it ends there its gradient has a step of 0.2 %."""
_VARIANCE = 0.01  # mm^2 of blur of the grid's points: lists of pairs hold as long as nothing has moved by much
_SHIFTS = (
    *((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, 0.0, 0.0), (0.0, 0.5, 0.5)),
    *((0.0, 0.5, 0.0), (0.5, 0.0, 0.5), (0.0, 0.0, 0.5), (0.5, 0.5, 0.0)),
)
"""Where the grid lies, in cells: all eight together are a grid of half its spacing."""
_MOMENTUM = (0.8, 0.95)  # of Adam: a few steps of memory, since there are some dozens of them in all
_SHAPES = 10  # parameters of a Gaussian besides its amplitude


class Projection:
    """The projection of one field, over what the slices saw.

    Parameters
    ----------
    target : GaussianField
    slices : Slices
        At their poses.
    pixel : float
        Pixel spacing, mm.
    settings : PrimitivesSettings
    backend : Backend
    """

    def __init__(
        self,
        target: GaussianField,
        slices: Slices,
        pixel: float,
        settings: PrimitivesSettings,
        backend: Backend = CPU,
    ) -> None:
        self.target, self.slices, self.pixel = target, slices, pixel
        self.settings, self.backend = settings, backend
        self._spacing = settings.cell * pixel
        region = lattice_over(slices, self._spacing, backend.device, BRIDGED)
        self._planes = [lattice_planes(region, shift, _VARIANCE) for shift in _SHIFTS]
        self._forward_model = backend.forward_model(self._planes[0], _CUTOFF)
        self._inside = torch.zeros(self._forward_model.pixels, device=backend.device)
        self._inside[pixels_of_cells(region)] = 1.0
        self._gains = backend.tensor(np.ones(len(self._planes[0])))
        self._wanted: dict[int, Tensor] = {}

    def begin(self, count: int) -> GaussianField:
        """So many Gaussians from a coarse lattice on, moved from stage to stage to where they are missed most."""
        settings = self.settings
        field = self._coarse(max(1, round(settings.first * count)))
        numbers = np.linspace(len(field), count, settings.stages).round().astype(int)
        return self._descended(field, [int(number) for number in numbers], settings.steps)

    def grow(self, field: GaussianField, count: int) -> GaussianField:
        """So many Gaussians, from a field of fewer on."""
        return self._descended(field, [count], self.settings.growth_steps)

    def _coarse(self, count: int) -> GaussianField:
        """A lattice of about so many Gaussians that takes the target's values."""
        spacing = self._spacing * (float(self._inside.sum()) / count) ** (1 / 3)
        lattice = lattice_over(self.slices, spacing, self.backend.device, BRIDGED)
        # A coarse lattice reaches further out than a fine one.
        spacing *= max(1.0, (len(lattice) / count) ** (1 / 3))
        lattice = lattice_over(self.slices, spacing, self.backend.device, BRIDGED)
        return lattice.field(resampled_amplitudes(self.target, lattice, self.backend))

    def _descended(self, field: GaussianField, numbers: list[int], steps: int) -> GaussianField:
        """The field after so many steps, in stages of so many Gaussians."""
        step = 0
        for stage, count in enumerate(numbers):
            field = field if len(field) == count else self._reallocated(field, count, step)
            last = steps * (stage + 1) // len(numbers)
            field = self._stage(field, range(step, last), steps)
            step = last
        for number in range(4):  # on each of the first two grids twice: together they are body-centred
            field = self._solved(field, number % 2, self.settings.iterations)[0]
        return field

    def _stage(self, field: GaussianField, steps: range, total: int) -> GaussianField:
        settings, start = self.settings, field
        size = field.log_scales.amin(dim=1, keepdim=True).exp()
        free = torch.nn.Parameter(torch.zeros(len(field), _SHAPES, device=self.backend.device))
        adam = torch.optim.Adam([free], lr=settings.rate, betas=_MOMENTUM)
        low, high = math.log(settings.sharpest * self.pixel), math.log(settings.widest * self.pixel)

        def shaped() -> GaussianField:
            step = free.detach()
            return replace(
                field,
                means=start.means + size * step[:, :3],
                log_scales=(start.log_scales + step[:, 3:6]).clamp(low, high),
                rotations=torch.nn.functional.normalize(start.rotations + step[:, 6:], dim=1),
            )

        for step in steps:
            grid = step % len(_SHIFTS)
            field, image = self._solved(shaped(), grid, settings.iterations)
            residual = self._inside * (image - self._target(grid))
            gradient = self._forward_model.vjp(residual, field.amplitudes, self._gains)[0][:, :_SHAPES]
            free.grad = torch.cat([size * gradient[:, :3], gradient[:, 3:]], dim=1)
            adam.param_groups[0]["lr"] = settings.rate * (1 + math.cos(math.pi * step / total)) / 2
            adam.step()
        return shaped()

    def _solved(self, field: GaussianField, grid: int, iterations: int) -> tuple[GaussianField, Tensor]:
        """The field with amplitudes nearer to their optimum on a grid, and its values there."""
        set_geometry(self._forward_model, field, self._planes[grid].pose)
        own = (field.log_scales.sum(dim=1).exp() * math.pi**1.5 / self._spacing**3).clamp(min=1e-3)
        solver = AmplitudeSolver(self._forward_model, len(field), preconditioner=lambda vector: vector / own)
        given = (self._target(grid), self._inside, self._gains, field.amplitudes, iterations)
        amplitudes, image = solver.solve(*given)
        return replace(field, amplitudes=amplitudes), image

    def _reallocated(self, field: GaussianField, count: int, step: int) -> GaussianField:
        """As many Gaussians as asked: fewer where they carry little, more where something is missing."""
        grid = step % len(_SHIFTS)
        field, image = self._solved(field, grid, self.settings.iterations)
        square = self._inside * (image - self._target(grid)) ** 2
        little = self.settings.little * float(square.sum(dtype=torch.float64)) * self._spacing**3 / len(field)
        field = merge(field.select(energies(field) > little), little)
        if len(field) > count:
            return field.select(torch.topk(energies(field), count).indices.sort().values)
        while len(field) < count:
            set_geometry(self._forward_model, field, self._planes[grid].pose)
            missed = self._forward_model.adjoint(square, self._gains)
            # Each may become two and no more, before it is looked at again.
            field = split(field, torch.topk(missed, min(count - len(field), len(field))).indices.sort().values)
        return field

    def _target(self, grid: int) -> Tensor:
        """The target's values on a grid; found when they are first needed."""
        if grid not in self._wanted:
            planes = self._planes[grid]
            model = self.backend.forward_model(planes, _CUTOFF)
            set_geometry(model, self.target, planes.pose)
            self._wanted[grid] = model.apply(self.target.amplitudes, self._gains)
        return self._wanted[grid]
