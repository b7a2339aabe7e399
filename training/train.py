"""Train one of the two networks on samples, also while these are still being made; can be stopped and taken up again.

python training/train.py FOLDER NETWORK.safetensors --steps 2000 [--start OTHER.safetensors] [--seed 0]
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from slicesplat.segment.network import BRAIN, BrainNetwork

RATE = 3e-3
BATCH = 2  # stacks
MOST = (24, 56, 56)
"""Slices and pixels of a sample that are looked at at a time."""
KEEP_EVERY = 50  # steps
NEAR = 0.75
"""Share of steps that draw an edge; the others look for a brain, which is easier."""
MEMORY = 0.995
"""Of a step in the average of the weights, which is what is kept (Polyak and Juditsky, 1992)."""
WEIGHTS = torch.tensor([1.0, 2.0, 1.0, 1.0])
"""Of the classes in the cross-entropy: a brain is a few hundredths of a field of view."""


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of all classes and 1 - Dice of the brain; both (nz, 4, nx, ny)."""
    log = torch.log_softmax(logits, dim=1)
    weight = WEIGHTS[None, :, None, None] * target
    entropy = -(weight * log).sum() / weight.sum().clamp_min(1)
    brain, truth = log[:, BRAIN].exp(), target[:, BRAIN]
    both = brain.sum() + truth.sum()
    # Of a stack without a brain every brain pixel is wrong.
    return entropy + 1 - (2 * (brain * truth).sum() + 10) / (both + 10)


def drawn(files: tuple[list[Path], list[Path]], random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A sample of those seen from afar or from near: turned, mirrored, brightened; and its target."""
    kind = files[int(random.random() < NEAR)]
    with np.load(kind[random.integers(len(kind))]) as kept:
        image, classes = kept["image"].astype(np.float32), kept["classes"]
    image, classes = torch.from_numpy(image)[None], torch.from_numpy(classes)
    for axis, most in enumerate(MOST, start=1):
        if image.shape[axis] > most:
            first = _first(classes[BRAIN], axis - 1, most, random)
            image, classes = image.narrow(axis, first, most), classes.narrow(axis, first, most)
    for axis in (1, 2, 3):
        if random.random() < 0.5:
            image, classes = image.flip(axis), classes.flip(axis)
    if random.random() < 0.5:
        image, classes = image.transpose(2, 3), classes.transpose(2, 3)
    target = classes.transpose(0, 1).float() / 255
    target[:, 0] += 1 - target.sum(dim=1)  # beyond the edges
    image = float(np.exp(random.normal(0, 0.1))) * image ** float(np.exp(random.normal(0, 0.2)))
    return image.transpose(0, 1).contiguous(memory_format=torch.channels_last), target


def by_kind(folder: Path) -> tuple[list[Path], list[Path]]:
    """Samples that there are: whole fields of view, and boxes around a brain."""
    found = sorted(folder.glob("??????-?.npz"))
    afar, near = ([path for path in found if int(path.name[:6]) % 2 == odd] for odd in (0, 1))
    return afar, near


def _first(brain: Tensor, axis: int, most: int, random: np.random.Generator) -> int:
    """Where a window of so many voxels begins along an axis: mostly where it shows some of the brain."""
    last = brain.shape[axis] - most
    shown = torch.nonzero(brain.amax(dim=tuple(a for a in range(3) if a != axis)) > 127)
    if not len(shown) or random.random() < 0.2:
        return int(random.integers(last + 1))
    middle = int(shown[random.integers(len(shown))])
    return int(np.clip(middle - random.integers(most), 0, last))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=RATE)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    random = np.random.default_rng(given.seed)
    network = BrainNetwork().to(memory_format=torch.channels_last)
    if given.start:
        network.load_state_dict(load_file(given.start))
    optimiser = torch.optim.AdamW(network.parameters(), lr=given.rate, weight_decay=1e-4)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(MEMORY))
    kept, first = given.network.with_suffix(".checkpoint.pt"), 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        for name, part in (("network", network), ("average", average), ("optimiser", optimiser)):
            part.load_state_dict(state[name])
        first = state["step"]
        random = np.random.default_rng([given.seed, first])
    began, means = time.perf_counter(), []
    for step in range(first, given.steps):
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / 50)
            group["lr"] = given.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / given.steps)))
        if step % KEEP_EVERY == 0 or step == first:
            files = by_kind(given.folder)
        optimiser.zero_grad()
        for _ in range(BATCH):
            image, target = drawn(files, random)
            found = loss(network(image), target) / BATCH
            found.backward()
            means.append(found.item() * BATCH)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        average.update_parameters(network)
        if (step + 1) % KEEP_EVERY == 0 or step + 1 == given.steps:
            samples = sum(map(len, files))
            print(f"{step + 1} {time.perf_counter() - began:.0f} s {np.mean(means):.4f} {samples} samples", flush=True)
            means = []
            parts = {"network": network, "average": average, "optimiser": optimiser}
            torch.save({name: part.state_dict() for name, part in parts.items()} | {"step": step + 1}, kept)
            weights = average.module.state_dict()
            save_file({name: value.half().contiguous() for name, value in weights.items()}, given.network)


if __name__ == "__main__":
    main()
