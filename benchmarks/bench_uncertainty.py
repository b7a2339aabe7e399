"""Is the standard error right: the error of the reconstruction over its standard error should spread by 1, everywhere.

Every shared case is reconstructed with the default settings. `overall` is the standard deviation of error over standard
error inside the truth's mask, `d1` to `d10` the same in tenths of the voxels by standard error, `rank` the rank
correlation of standard error and error, the latter as the root of its mean square over a few voxels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cases import QUICK_SPACING, Case, Row, Rows, chosen_cases, parser
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from slicesplat.config import Config
from slicesplat.pipeline import reconstruct
from slicesplat.validation.evaluate import aligned

_WINDOW = 2.0  # voxels over which squared errors are averaged for the rank correlation
_TENTHS = 10


def calibration(case: Case, config: Config) -> Row:
    """One reconstruction: how its errors compare with what it said of them."""
    assert case.truth is not None and case.truth_mask is not None
    result = reconstruct(case.stacks, replace(config, uncertainty=True))
    assert result.uncertainty is not None
    found = aligned(result.volume, case.truth, case.truth_mask)
    said = found.gain * found.resampled(result.uncertainty)
    # Outside the output's mask nothing is said.
    use = found.mask & (said > 0)
    error = np.where(use, found.values - found.truth, 0.0)
    ratio = error[use] / said[use]
    tenth = np.searchsorted(np.quantile(said[use], np.arange(1, _TENTHS) / _TENTHS), said[use])
    near = np.sqrt(gaussian_filter(error**2, _WINDOW) / np.maximum(gaussian_filter(use * 1.0, _WINDOW), 1e-3))
    seconds = {step.step: step.seconds for step in result.steps}
    return {
        "covered_share": float(use.sum() / found.mask.sum()),
        "overall": float(ratio.std()),
        **{f"d{i + 1}": round(float(ratio[tenth == i].std()), 2) for i in range(_TENTHS)},
        "rank": float(spearmanr(said[use], near[use])[0]),
        "rms_error": float(np.sqrt(np.mean(error[use] ** 2)) / found.truth[found.mask].std()),
        "rms_said": float(np.sqrt(np.mean(said[use] ** 2)) / found.truth[found.mask].std()),
        "uncertainty_s": seconds["uncertainty"],
        "fit_s": seconds["fit"],
    }


def main() -> None:
    args = parser(__doc__).parse_args()
    config = Config(resolution=QUICK_SPACING) if args.quick else Config()
    rows = Rows("Uncertainty", args.json)
    for case in chosen_cases(args):
        if case.truth is not None:
            rows.add(case=case.name, **calibration(case, config))
    rows.show()


if __name__ == "__main__":
    main()
