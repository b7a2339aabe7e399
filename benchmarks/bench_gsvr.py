"""The published simulation of the method's paper, on the infants' volumes at hand, beside the paper's figures.

Another anatomy: the paper's ten neonates are not at hand. Its figures are those of a GPU, ours of this machine.
"""

from __future__ import annotations

import time
from dataclasses import replace

import nibabel as nib
import numpy as np
from cases import SIMULATED, Case, Row, Rows, Source, parser, phantom_source, pose_quality, say, shared_sources

from slicesplat.config import Config
from slicesplat.pipeline import reconstruct
from slicesplat.validation.evaluate import score
from slicesplat.validation.protocols import PROTOCOLS
from slicesplat.validation.simulate import simulate

BENCHMARK = "gsvr"
RESOLUTION = 0.5  # mm
PUBLISHED = {
    "SVRTK": {"psnr": 18.65, "ssim": 0.641, "ncc": 0.541, "wall_s": 573.0},
    "NeSVoR": {"psnr": 28.38, "ssim": 0.933, "ncc": 0.955, "wall_s": 478.0},
    "GSVR": {"psnr": 28.76, "ssim": 0.936, "ncc": 0.957, "wall_s": 79.0},
}
"""Dannecker et al., MIDL 2026, Table 1: means over ten neonates."""


def scanned(source: Source, seed: int, quick: bool) -> Case:
    """The protocol's stacks of a volume; coarser for --quick."""
    config = replace(PROTOCOLS["gsvr"], seed=seed)
    config = replace(config, pixel=1.5) if quick else config
    scan = simulate(source.volume, source.affine, source.mask, config)
    truth = nib.Nifti1Image(source.volume, source.affine)
    mask = nib.Nifti1Image(source.mask.astype(np.uint8), source.affine)
    return Case(f"{source.name}, seed {seed}", scan.stacks, truth, mask, scan.truth)


def measured(case: Case, config: Config) -> Row:
    """Quality of the volume, poses and seconds of one reconstruction."""
    assert case.truth is not None and case.truth_mask is not None
    start = time.perf_counter()
    result = reconstruct(case.stacks, config)
    seconds = time.perf_counter() - start
    found = score(result.volume, case.truth, case.truth_mask)
    quality = {"psnr": round(found.psnr, 3), "ssim": round(found.ssim, 4), "ncc": round(found.ncc, 4)}
    return {**quality, **pose_quality(result.slice_records(), case), "wall_s": round(seconds, 1)}


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the simulation")
    args = options.parse_args()
    if args.quick or not SIMULATED.is_dir():
        say("the phantom in place of the infants' volumes")
        sources = [phantom_source(55.0, 1.2)]
    else:
        sources = [source for source in shared_sources() if "fetal" not in source.name]
    if args.cases:
        sources = [source for source in sources if any(name in source.name for name in args.cases)]
    config = Config(resolution=1.2 if args.quick else RESOLUTION)
    rows, own = Rows("Published protocol", BENCHMARK, args), []
    for source in sources:
        for seed in args.seeds:
            own.append(measured(scanned(source, seed, args.quick), config))
            rows.add(case=source.name, run=f"slicesplat, seed {seed}", **own[-1])
    if own:
        means = {
            name: round(float(np.mean([row[name] for row in own])), 4) for name in ("psnr", "ssim", "ncc", "wall_s")
        }
        rows.add(case=f"mean of {len(own)}, this machine's CPU", run="slicesplat", **means)
    for name, figures in PUBLISHED.items():
        rows.add(case="ten neonates, GPU (published)", run=name, **figures)
    rows.show()


if __name__ == "__main__":
    main()
