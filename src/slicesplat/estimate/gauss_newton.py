"""A step of Gauss and Newton for amplitudes and poses together.

With J the derivatives of the slices' pixels by their poses, D the form of the field's prior and K that of the motions',

    [ A' W A + D    A' W J              ] [ da ]       [ A' W r + D a        ]
    [ J' W A        J' W J + nu K       ] [ dT ]  =  - [ J' W r + nu grad K  ] ,      r = A a - y,

by conjugate gradients, preconditioned block by block: what the amplitudes have, and each slice's own six by six. In
turns, amplitudes and poses follow each other; where a change of both leaves the pixels nearly as they are, that takes
hundreds of them. docs/method.md, Objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from slicesplat.geometry.pixels import broadcast_to_pixels, sum_over_slices
from slicesplat.geometry.rigid import Float
from slicesplat.geometry.slices import Slices
from slicesplat.motion.motion_prior import MotionPrior
from slicesplat.solvers.cg import ConjugateGradients, Matvec
from slicesplat.splat import ForwardModel

_SLIGHT = np.array([1, 1, 1, 400, 400, 400]) * 1e-6  # of a slice's stiffest direction: all of them have an inverse


@dataclass(frozen=True, eq=False)
class JointSystem:
    """Least squares in the amplitudes and the slices' steps about where both are.

    Attributes
    ----------
    slices : Slices
    forward_model : ForwardModel
        With field and slices in place.
    jacobian : (6, P) float32
        Images by the steps of the slices, for gain 1; zero at pixels that place nothing.
    weights : (P,) float32
        Of the residuals for gain 1.
    prior, preconditioner : callable
        Of the amplitudes: the form's matrix times a vector (N,), and about the inverse of their normal equations'.
    motion : MotionPrior
    variance : float
        What a unit of the motions' prior is worth in squared residuals.
    """

    slices: Slices
    forward_model: ForwardModel
    jacobian: Tensor
    weights: Tensor
    prior: Matvec
    preconditioner: Matvec
    motion: MotionPrior
    variance: float

    def solve(self, residual: Tensor, amplitudes: Tensor, iterations: int) -> tuple[Tensor, Float]:
        """Steps of the amplitudes (N,) and of the slices (S, 6) after so many iterations.

        Parameters
        ----------
        residual : (P,) float32
            Of the image for gain 1.
        amplitudes : (N,) float32
            The present ones.
        iterations : int
        """
        count, blocks = len(amplitudes), self._blocks()

        def operator(vector: Tensor) -> tuple[Tensor, Tensor]:
            step = self._steps(vector[count:])
            image = self._image(vector[:count], step)
            forces = self._forces(self.weights * image) + self.variance * self.motion.matvec(step)
            return self._joined(self._adjoint(image) + self.prior(vector[:count]), forces), image

        def preconditioner(vector: Tensor) -> Tensor:
            steps = np.einsum("sij,sj->si", blocks, self._steps(vector[count:]))
            return self._joined(self.preconditioner(vector[:count]), steps)

        forces = self._forces(self.weights * residual) + self.variance * self.motion.gradient()
        downhill = -self._joined(self._adjoint(residual) + self.prior(amplitudes), forces)
        nothing = torch.zeros_like(downhill), torch.zeros_like(residual)
        # Nothing is replayed on a device: the slices' part is the host's.
        conjugate_gradients = ConjugateGradients(operator, *nothing, preconditioner)
        found, _ = conjugate_gradients.solve(nothing[0], downhill, nothing[1], iterations)
        return found[:count], self._steps(found[count:])

    def _blocks(self) -> Float:
        """(S, 6, 6) the inverse of each slice's own part of the system."""
        own = np.zeros((len(self.slices), 6, 6))
        for i in range(6):
            for j in range(i + 1):
                product = self.jacobian[i] * self.jacobian[j] * self.weights
                own[:, i, j] = own[:, j, i] = sum_over_slices(product, self.slices)
        own += (self.variance * self.motion.diagonal())[:, :, None] * np.eye(6)
        stiffest = np.linalg.eigvalsh(own)[:, -1]
        return np.asarray(np.linalg.inv(own + (stiffest[:, None, None] * _SLIGHT + 1e-9) * np.eye(6)))

    def _image(self, amplitudes: Tensor, step: Float) -> Tensor:
        """(P,) what steps of both change in the image."""
        image = self.forward_model.apply(amplitudes, np.ones(len(self.slices)))
        for derivative, by in zip(self.jacobian, step.T, strict=True):
            image = torch.addcmul(image, derivative, broadcast_to_pixels(by, self.slices, image.device))
        return image

    def _adjoint(self, image: Tensor) -> Tensor:
        return self.forward_model.adjoint(self.weights * image, np.ones(len(self.slices)))

    def _forces(self, weighted: Tensor) -> Float:
        """(S, 6) J' times a weighted image (P,)."""
        return np.stack([sum_over_slices(derivative * weighted, self.slices) for derivative in self.jacobian], axis=1)

    def _joined(self, amplitudes: Tensor, steps: Float) -> Tensor:
        """(N + 6 S,) float32."""
        return torch.cat([amplitudes, torch.as_tensor(steps.ravel()).to(amplitudes)])

    def _steps(self, vector: Tensor) -> Float:
        """(S, 6) from the end of such a vector."""
        return vector.cpu().numpy().astype(np.float64).reshape(-1, 6)
