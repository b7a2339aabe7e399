"""The volume as a sum of anisotropic 3-D Gaussians.

    V(x) = sum_j a_j exp(-1/2 (x - mu_j)' S_j^-1 (x - mu_j)),   S_j = R(q_j) diag(exp(2 l_j)) R(q_j)'

After Dannecker et al., MIDL 2026 (PMLR 315:1473-1491); additive, without their normalisation by the sum of weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from scipy.spatial.transform import Rotation
from torch import Tensor

from slicesplat.errors import InputError
from slicesplat.geometry.rigid import Rigid

_SHAPES = {"means": (3,), "log_scales": (3,), "rotations": (4,), "amplitudes": ()}
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
        for name, shape in _SHAPES.items():
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
        turn = Rotation.from_matrix(transform.rotation)
        own = Rotation.from_quat(self.rotations.detach().cpu().numpy(), scalar_first=True)
        quaternions = torch.as_tensor((turn * own).as_quat(scalar_first=True)).to(self.rotations)
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

    def save(self, path: str | Path) -> None:
        """Write the parameters as safetensors."""
        # The library's own writer makes files that nobody else can read, whatever the umask says.
        Path(path).write_bytes(
            save({name: value.detach().contiguous().cpu() for name, value in self.tensors().items()})
        )

    @classmethod
    def load(cls, path: str | Path) -> GaussianField:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file cannot be read, is no safetensors file, or holds something else than Gaussians, all of them finite.
        """
        try:
            tensors = load_file(path)
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; check the path") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the file") from error
        # What PyTorch has no type for is a ValueError or a KeyError, by version.
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"{path}: is no safetensors file, or a damaged one; write it again") from error
        problem = _problem(tensors)
        if problem:
            raise InputError(f"{path}: holds no volume as Gaussians ({problem}); give what --output-model has written")
        return cls(**tensors)


def _problem(tensors: dict[str, Tensor]) -> str:
    """What keeps the tensors of a file from being a field; empty where nothing does."""
    if tensors.keys() != _SHAPES.keys():
        return f"its tensors are not {', '.join(_SHAPES)}"
    count = len(tensors["amplitudes"]) if tensors["amplitudes"].ndim else 0
    if not count:
        return "no Gaussian"
    for name, shape in _SHAPES.items():
        value = tensors[name]
        if value.dtype not in (torch.float32, torch.float64):
            return f"{name} are {value.dtype}, not float32 or float64"
        if value.shape != (count, *shape):
            return f"{name} are of shape {tuple(value.shape)}, not {(count, *shape)}"
        if not value.isfinite().all():
            return f"NaN or infinite {name}"
    variances = (2 * tensors["log_scales"]).exp()
    if not (variances.isfinite() & (variances > 0)).all():
        return "log_scales beyond all sizes"
    lengths = torch.linalg.vector_norm(tensors["rotations"].double(), dim=1)
    if not (lengths.isfinite() & (lengths > SHORTEST_QUATERNION)).all():
        return "a quaternion without direction"
    return ""
