"""What a voxel of a synthetic stack can be, and what of it a network tells apart."""

from __future__ import annotations

import numpy as np

AIR, FAT, MUSCLE, BONE, DISC, WATER, WALL, FLUID, PLACENTA, CORD = range(10)
SKIN, SKULL, LUNG, LIVER, FETAL_WATER, FETAL_MIXED, VOID = range(10, 17)
BOWEL = range(17, 23)
LIQUOR, BRAIN = 23, 24  # and eight tissues of the brain from there on
BASE = BRAIN + 8  # what lies in the hollows of the brain's lower side
N_LABELS = BRAIN + 9

OTHER, IS_BRAIN, FETUS, UTERUS = range(4)
"""What a network tells apart."""
CLASS = np.full(N_LABELS, OTHER, np.uint8)
CLASS[[FLUID, PLACENTA, CORD]] = UTERUS
CLASS[[SKIN, SKULL, LUNG, LIVER, FETAL_WATER, FETAL_MIXED]] = FETUS
CLASS[LIQUOR:] = IS_BRAIN
CLASS[BASE] = FETUS
