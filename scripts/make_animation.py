"""Make the moving picture of the README: a phantom's volume getting sharper while it is fitted.

    python scripts/make_animation.py

The phantom and the stacks of `slicesplat demo`, reconstructed with a picture after every sweep of the fit. Half
a minute on two cores; the same picture every time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from slicesplat.config import Config
from slicesplat.pipeline import reconstruct
from slicesplat.report.snapshots import Snapshots, save_animation, snapshot_files
from slicesplat.validation.demo import DEMO_SIMULATION
from slicesplat.validation.phantom import brain_phantom
from slicesplat.validation.simulate import simulate

OUTPUT = Path(__file__).parents[1] / "docs" / "sharpening.gif"


def main() -> None:
    """Simulate, reconstruct, animate."""
    stacks = simulate(*brain_phantom(92.0, 0.8), DEMO_SIMULATION).stacks
    watch = Snapshots()
    reconstruct(stacks, Config(threads=1), watch=watch)
    with tempfile.TemporaryDirectory() as folder:
        watch.save(Path(folder) / "frames")
        save_animation(snapshot_files(Path(folder) / "frames"), OUTPUT, seconds=5.0, rest=2.0)


if __name__ == "__main__":
    main()
