"""How good a reconstruction is when the truth is known: image quality after rigid alignment.

The definitions are those of the project's scoring tools, so that numbers can be compared across programs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from slicesplat.geometry.rigid import RAS_TO_LPS

Float = NDArray[np.float64]

# PSNR's peak is this percentile of the truth inside the mask: one bright voxel does not set the scale.
_PEAK_PERCENTILE = 99.9
_SSIM_SIGMA = 1.5
# ITK jitters the metric's sample points, by the clock unless told otherwise: a score would differ from run to run.
_SAMPLING_SEED = 1


@dataclass(frozen=True, repr=False)
class Score:
    """Image quality inside the truth mask, after rigid alignment and one least-squares gain and offset."""

    psnr: float
    """Peak signal-to-noise ratio in dB; the peak is the truth's 99.9th percentile inside the mask."""
    ssim: float
    """Structural similarity, 3-D, Gaussian window of 1.5 voxels, mean over the mask."""
    ncc: float
    """Correlation coefficient."""
    nrmse: float
    """Root mean square error as a fraction of the peak."""
    rotation_deg: tuple[float, float, float]
    """Euler angles (x, y, z) in degrees of the alignment, truth to reconstruction, in ITK's LPS frame."""
    translation_mm: tuple[float, float, float]
    """Its translation in mm, in ITK's LPS frame."""

    def __repr__(self) -> str:
        return f"Score(PSNR {self.psnr:.2f} dB, SSIM {self.ssim:.4f}, NCC {self.ncc:.4f}, NRMSE {self.nrmse:.4f})"

    def json(self) -> dict[str, Any]:
        """The figures under their names."""
        return asdict(self)


def _to_itk(image: SpatialImage, dtype: type[np.generic]) -> sitk.Image:
    """The same image for ITK, whose world is LPS and whose arrays run z, y, x."""
    affine = np.asarray(image.affine, dtype=np.float64)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    out = sitk.GetImageFromArray(np.ascontiguousarray(np.asarray(image.dataobj).astype(dtype).T))
    out.SetSpacing(spacing.tolist())
    out.SetDirection((RAS_TO_LPS @ (affine[:3, :3] / spacing)).ravel().tolist())
    out.SetOrigin((RAS_TO_LPS @ affine[:3, 3]).tolist())
    return out


def _registration_method(fixed_mask: sitk.Image) -> sitk.ImageRegistrationMethod:
    """Correlation, coarse to fine, by gradient descent."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(fixed_mask)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentagePerLevel([0.5, 0.3, 0.2], _SAMPLING_SEED)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200, relaxationFactor=0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _register(fixed: sitk.Image, moving: sitk.Image, fixed_mask: sitk.Image) -> sitk.Euler3DTransform:
    """Best rigid transform of two starts: where the images are, and with their centres of mass on each other."""
    moments = sitk.Euler3DTransform(
        sitk.CenteredTransformInitializer(
            fixed, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
    )
    results: list[tuple[float, sitk.Euler3DTransform]] = []
    for translation in ((0.0, 0.0, 0.0), moments.GetTranslation()):
        transform = sitk.Euler3DTransform()
        transform.SetCenter(moments.GetCenter())
        transform.SetTranslation(translation)
        method = _registration_method(fixed_mask)
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(fixed, moving)
        except RuntimeError:
            # From this start the images do not overlap; the other one may do.
            continue
        results.append((method.GetMetricValue(), transform))
    if not results:
        raise ValueError("the reconstruction cannot be aligned to the truth: they do not overlap")
    return min(results, key=lambda result: result[0])[1]


def _match_intensity(values: Float, target: Float) -> tuple[float, float]:
    """Gain and offset that bring `values` closest to `target` in the least-squares sense."""
    gain, offset = np.polyfit(values, target, 1)
    return float(gain), float(offset)


def _masked_ssim(image: NDArray[Any], truth: NDArray[Any], mask: NDArray[np.bool_], peak: float) -> float:
    """Structural similarity, mean over the mask, of images that are zero outside it."""
    _, similarity = structural_similarity(
        np.where(mask, truth, 0),
        np.where(mask, image, 0),
        data_range=peak,
        gaussian_weights=True,
        sigma=_SSIM_SIGMA,
        use_sample_covariance=False,
        full=True,
    )
    return float(similarity[mask].mean())


@dataclass(frozen=True, eq=False)
class Aligned:
    """A reconstruction on the grid of the truth, on its scale. Arrays are ITK's: axes z, y, x.

    Attributes
    ----------
    values, truth : arrays
    mask : array of bool
        Where to compare them.
    gain : float
        What the reconstruction's intensities were multiplied with.
    transform : SimpleITK transform
        Truth to reconstruction.
    grid : SimpleITK image
        The truth.
    """

    values: Float
    truth: Float
    mask: NDArray[np.bool_]
    gain: float
    transform: sitk.Euler3DTransform
    grid: sitk.Image

    def resampled(self, companion: SpatialImage) -> Float:
        """Another image of the reconstruction's space on the truth's grid, linearly interpolated, 0 outside."""
        moving = _to_itk(companion, np.float32)
        found = sitk.Resample(moving, self.grid, self.transform, sitk.sitkLinear, 0.0)
        return sitk.GetArrayFromImage(found).astype(np.float64)


def aligned(
    reconstruction: SpatialImage, truth: SpatialImage, truth_mask: SpatialImage, register: bool = True
) -> Aligned:
    """A reconstruction, aligned rigidly to the truth, with one least-squares gain and offset inside the mask.

    Parameters, errors: as `score`.
    """
    if truth.shape != truth_mask.shape:
        raise ValueError(f"mask {truth_mask.shape} and truth {truth.shape} differ in shape")
    fixed, moving = _to_itk(truth, np.float32), _to_itk(reconstruction, np.float32)
    fixed_mask = _to_itk(truth_mask, np.uint8)
    mask = sitk.GetArrayFromImage(fixed_mask) > 0
    if not mask.any():
        raise ValueError("the truth mask is empty")
    transform = _register(fixed, moving, fixed_mask) if register else sitk.Euler3DTransform()
    image = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkBSpline, 0.0)).astype(np.float64)
    expected = sitk.GetArrayFromImage(fixed).astype(np.float64)
    if np.ptp(image[mask]) == 0:
        raise ValueError("the reconstruction shows nothing inside the truth mask: same world frame?")
    gain, offset = _match_intensity(image[mask], expected[mask])
    return Aligned(gain * image + offset, expected, mask, gain, transform, fixed)


def score(reconstruction: SpatialImage, truth: SpatialImage, truth_mask: SpatialImage, register: bool = True) -> Score:
    """Compare a reconstruction with the truth.

    Parameters
    ----------
    reconstruction : nibabel image
        On any grid.
    truth, truth_mask : nibabel images
        On one grid; the mask is greater than 0 where the score is taken.
    register : bool
        Align rigidly first; else the world frames are taken as they are.

    Returns
    -------
    Score

    Raises
    ------
    ValueError
        Truth and mask differ in shape, the mask is empty, or the reconstruction shows nothing inside it.
    """
    return score_of(aligned(reconstruction, truth, truth_mask, register))


def score_of(found: Aligned) -> Score:
    """The score of a reconstruction that has been aligned."""
    x, y = found.values[found.mask], found.truth[found.mask]
    peak = float(np.percentile(y, _PEAK_PERCENTILE))
    mse = float(np.mean((x - y) ** 2))
    parameters = found.transform.GetParameters()
    rotation, translation = np.rad2deg(parameters[:3]), np.asarray(parameters[3:])
    return Score(
        psnr=10 * float(np.log10(peak**2 / mse)) if mse > 0 else float("inf"),
        ssim=_masked_ssim(found.values, found.truth, found.mask, peak),
        # The gain turns what is correlated negatively.
        ncc=float(np.sign(found.gain) * np.corrcoef(x, y)[0, 1]),
        nrmse=float(np.sqrt(mse)) / peak,
        rotation_deg=(float(rotation[0]), float(rotation[1]), float(rotation[2])),
        translation_mm=(float(translation[0]), float(translation[1]), float(translation[2])),
    )
