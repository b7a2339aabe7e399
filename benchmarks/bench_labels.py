"""How well labels drawn on slices become a label map on known motion: Dice of every label.

Label maps of the shared atlas at several ages, six stacks of slices 3 mm thick (and three), every slice moved, each
pixel with the label that fills most of it; beside what the nearest pixels' votes give. Where the atlas is not, and with
--quick, thirds of the phantom by brightness take its place.
"""

from __future__ import annotations

import time

import nibabel as nib
import numpy as np
from cases import SHARED, Rows, parser, phantom_source, say
from scipy.ndimage import find_objects

from slicesplat.config import Config
from slicesplat.pipeline.apply import apply_labels
from slicesplat.sampling import Grid
from slicesplat.validation.labels import LabelScan, label_dice, label_stacks, nearest_labels

BENCHMARK = "labels"
ATLAS = SHARED / "data" / "atlas-cc0"
MARGIN = 8  # voxels


def label_map(week: int | None) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, labels around what has one, affine."""
    if week is None:
        source = phantom_source(45.0, 1.2)
        limits = np.quantile(source.volume[source.mask], [1 / 3, 2 / 3])
        name, labels, affine = "phantom", (1 + np.digitize(source.volume, limits)) * source.mask, source.affine
    else:
        image = nib.load(ATLAS / f"ga{week}-parcellation.nii.gz")
        name, labels, affine = f"{week} weeks", np.asarray(image.dataobj).astype(int), image.affine
    box = find_objects((labels > 0).astype(int))[0]
    low = np.array([max(part.start - MARGIN, 0) for part in box])
    inside = tuple(slice(first, part.stop + MARGIN) for first, part in zip(low, box, strict=True))
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    return name, labels[inside], affine


def main() -> None:
    options = parser(__doc__, BENCHMARK)
    options.add_argument("--weeks", type=int, nargs="+", default=[21, 24, 27, 30, 33], metavar="N")
    options.add_argument("--stacks", type=int, nargs="+", default=[6, 3], metavar="N")
    args = options.parse_args()
    known = ATLAS.is_dir() and not args.quick
    if not known:
        say("labels of the phantom")
    rows = Rows("Labels", BENCHMARK, args)
    for week in args.weeks if known else [None]:
        name, truth, affine = label_map(week)
        for number in args.stacks:
            stacks, poses = label_stacks(truth, affine, LabelScan(stacks=number))
            start = time.process_time()
            found = apply_labels(stacks, poses, Config(threads=1), Grid(affine, truth.shape))
            seconds = time.process_time() - start
            each = label_dice(np.asarray(found.dataobj), truth)
            nearest = label_dice(nearest_labels(stacks, poses, affine, truth.shape), truth)
            rows.add(
                labels=name,
                stacks=number,
                mean_dice=round(float(np.mean(list(each.values()))), 4),
                nearest_dice=round(float(np.mean(list(nearest.values()))), 4),
                each_dice=" ".join(f"{label}:{value:.3f}" for label, value in each.items()),
                cpu_s=round(seconds, 1),
            )
    rows.show()


if __name__ == "__main__":
    main()
