"""The volume as a sum of anisotropic 3-D Gaussians.

    V(x) = sum_j a_j exp(-1/2 (x - mu_j)' S_j^-1 (x - mu_j)),   S_j = R(q_j) diag(exp(2 l_j)) R(q_j)'

After Dannecker et al., MIDL 2026 (PMLR 315:1473-1491); additive, without their normalisation by the sum of weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slicesplat.geometry import rotations
from slicesplat.geometry.rigid import Rigid

SHAPES = {"means": (3,), "log_scales": (3,), "rotations": (4,), "amplitudes": ()}
"""Of each parameter, without the number of Gaussians."""
SHORTEST_QUATERNION = 1e-12  # torch.nn.functional.normalize takes a shorter one for zero


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) in the order w, x, y, z; their length does not matter.

    Examples
    --------
    >>> rotation_matrices(torch.tensor([2.0, 0.0, 0.0, 0.0])).diagonal().tolist()
    [1.0, 1.0, 1.0]
    """
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    return torch.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        ],
        dim=-1,
    ).reshape(*quaternions.shape[:-1], 3, 3)


@dataclass(eq=False, repr=False)
class GaussianField:
    """A sum of N anisotropic Gaussians in world space.

    Attributes
    ----------
    means : (N, 3) mm
    log_scales : (N, 3)
        Natural logarithm of the standard deviations in mm along the Gaussian's own axes.
    rotations : (N, 4)
        Quaternions w, x, y, z; of any length but zero.
    amplitudes : (N,)
        Value that the Gaussian alone gives at its mean.

    Raises
    ------
    ValueError
        The parameters are not of these shapes.
    """

    means: Tensor
    log_scales: Tensor
    rotations: Tensor
    amplitudes: Tensor

    def __post_init__(self) -> None:
        for name, shape in SHAPES.items():
            found = getattr(self, name).shape
            if found != (len(self.means), *shape):
                raise ValueError(f"{name} of shape {tuple(found)}: give {(len(self.means), *shape)}")

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        if not len(self):
            return "GaussianField(no Gaussians)"
        size = float(self.log_scales.detach().exp().median())
        return f"GaussianField({len(self)} Gaussians of {size:.2g} mm, {self.means.dtype}, on {self.means.device})"

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name."""
        return {
            "means": self.means,
            "log_scales": self.log_scales,
            "rotations": self.rotations,
            "amplitudes": self.amplitudes,
        }

    def to(self, kind: torch.dtype | torch.device | str) -> GaussianField:
        """Every parameter as another type or on another device."""
        return GaussianField(**{name: value.to(kind) for name, value in self.tensors().items()})

    def moved(self, transform: Rigid) -> GaussianField:
        """The field after a rigid transform of the world.

        Examples
        --------
        >>> one = GaussianField(torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([[1.0, 0, 0, 0]]), torch.ones(1))
        >>> one.moved(Rigid.exp([1.0, 2.0, 3.0, 0.0, 0.0, 0.0])).means.tolist()
        [[1.0, 2.0, 3.0]]
        """
        turn = rotations.quaternions_of_matrices(transform.rotation)
        own = self.rotations.detach().cpu().double().numpy()
        own = own / np.linalg.norm(own, axis=1, keepdims=True)
        quaternions = torch.as_tensor(rotations.product(turn, own)).to(self.rotations)
        matrix = torch.as_tensor(transform.matrix)
        means = self.means.double() @ matrix[:3, :3].T.to(self.means.device) + matrix[:3, 3].to(self.means.device)
        return GaussianField(means.to(self.means), self.log_scales, quaternions, self.amplitudes)

    def select(self, keep: Tensor) -> GaussianField:
        """The Gaussians that a boolean mask or an index names."""
        return GaussianField(**{name: value[keep] for name, value in self.tensors().items()})

    @staticmethod
    def concatenate(fields: list[GaussianField]) -> GaussianField:
        """The sum of several fields."""
        names = fields[0].tensors()
        return GaussianField(**{name: torch.cat([f.tensors()[name] for f in fields]) for name in names})

    def covariances(self) -> Tensor:
        """(N, 3, 3) mm^2."""
        axes = rotation_matrices(self.rotations) * self.log_scales.exp().unsqueeze(-2)
        return axes @ axes.mT

    def evaluate(self, points: Tensor) -> Tensor:
        """The field's value at points (M, 3) mm: (M,). Sums over every Gaussian: for few points."""
        offset = points[:, None, :] - self.means
        square = torch.einsum("mni,nij,mnj->mn", offset, torch.linalg.inv(self.covariances()), offset)
        return torch.exp(-0.5 * square) @ self.amplitudes
