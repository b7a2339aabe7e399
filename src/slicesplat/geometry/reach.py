"""How far things reach: Gaussians, the lists of whom they touch, and what lies around a region.

The floors above compute with these numbers, and what a reconstruction will take of memory follows from them: they stand
where nothing has to be imported to know them.
"""

from __future__ import annotations

LATTICE_SIGMA = 0.6
"""Standard deviation of a lattice Gaussian in units of the lattice spacing: neighbours sum to a constant within
1 %, and the system stays well conditioned."""
FIT_CUTOFF = 3.0
"""Mahalanobis distance that Gaussians reach to unless something else is said: in registration and fit."""
SAMPLING_CUTOFF = 4.0
"""The same while a volume is sampled."""
LIST_MARGIN = 0.25
"""mm: pair lists are made this much too generous, and reused until something has moved that far."""
RIM_MM = 1.5
"""mm around a mask: its outline is known to a pixel or so, and tissue that a segmentation trimmed is worth more than a
tight rim."""
PADDING = 3
"""Voxels of a volume around its region."""
