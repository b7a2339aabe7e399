"""How well brains find their way into standard space, from any orientation.

Brains of the shared atlas at ages of which there is no template, turned at random all over, every other one with its
array mirrored. Printed for each: the template taken, its correlation, the lead over another orientation, and how far
its axes are from those of the atlas, which differ by some degrees from age to age themselves; then the shares that are
within 5 degrees, upside down or back to front, and swapped from left to right.
"""

from __future__ import annotations

import argparse
import time

import nibabel as nib
import numpy as np
from cases import SHARED, Rows, parser, phantom_source, say
from scipy.spatial.transform import Rotation

from slicesplat.geometry.rigid import Rigid
from slicesplat.io.templates import Template, built_in_templates
from slicesplat.prepare.standard_space import align_to_template

BENCHMARK = "standard-space"
ATLAS = SHARED / "data" / "atlas-cc0"
UNSEEN = (22, 23, 26, 28, 29, 31, 32, 33)  # weeks
LIMIT = 5.0  # degrees
OTHER_WAY = 90.0  # degrees, from which on something points the other way
THINNED = 2  # voxels of 0.8 mm, along each axis


def brains(args: argparse.Namespace) -> tuple[list[tuple[str, np.ndarray, np.ndarray, np.ndarray]], list[Template]]:
    """Name, values, mask and affine of brains whose axes are those of standard space, and the templates."""
    if ATLAS.is_dir() and not args.quick:
        found = []
        for week in UNSEEN:
            image, mask = (nib.load(ATLAS / f"ga{week}-{kind}.nii.gz") for kind in ("srr", "mask"))
            thin = (slice(None, None, THINNED),) * 3
            affine = image.affine @ np.diag([THINNED, THINNED, THINNED, 1.0])
            inside = np.asarray(mask.dataobj)[thin] > 0
            found.append((f"{week} weeks", np.asarray(image.dataobj, np.float32)[thin], inside, affine))
        return found, built_in_templates()
    say("the phantom, against itself")
    source = phantom_source(60.0, 1.6)
    values, inside = np.asarray(source.volume, np.float32), np.asarray(source.mask) > 0
    template = Template("phantom", np.where(inside, values, 0), source.affine)
    return [("phantom", values, inside, source.affine)], [template]


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--count", type=int, default=40, metavar="N", help="orientations (default: 40)")
    options.add_argument("--seed", type=int, default=0, metavar="N")
    args = options.parse_args()
    rows, rng = Rows("Standard space", BENCHMARK, args), np.random.default_rng(args.seed)
    known, templates = brains(args)
    angles, flipped, swapped = [], [], []
    for number in range(2 if args.quick else args.count):
        name, values, inside, affine = known[number % len(known)]
        moved = np.eye(4)
        moved[:3, :3] = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
        moved[:3, 3] = rng.uniform(-60.0, 60.0, 3)
        if number % 2:
            flip = np.diag([-1.0, 1.0, 1.0, 1.0])
            flip[0, 3] = len(values) - 1
            values, inside, affine = values[::-1], inside[::-1], affine @ flip
        start = time.perf_counter()
        found = align_to_template(values, inside, moved @ affine, templates)
        seconds = time.perf_counter() - start
        left = found.transform @ Rigid(moved)
        angles.append(float(np.degrees(left.angle())))
        # Where the brain's own right, front and top point to.
        away = np.degrees(np.arccos(np.clip(np.diag(left.rotation), -1.0, 1.0)))
        swapped.append(away[0] > OTHER_WAY)
        flipped.append((away[1:] > OTHER_WAY).any())
        rows.add(
            brain=name,
            template=found.template,
            ncc=round(found.ncc, 3),
            lead=round(found.lead, 3),
            doubtful="yes" if found.doubtful else "no",
            degrees=round(angles[-1], 2),
            wall_s=round(seconds, 1),
        )
    rows.add(
        brain=f"all {len(angles)}",
        degrees=round(float(np.median(angles)), 2),
        within_5_degrees_share=float(np.mean(np.array(angles) < LIMIT)),
        upside_down_share=float(np.mean(flipped)),
        left_right_swapped_share=float(np.mean(swapped)),
    )
    rows.show()


if __name__ == "__main__":
    main()
