"""NeSVoR's flags that mean nothing here, or are said in another way: what happens instead.

Its users change one word of their command lines. The flags that mean the same have the same names and are not here. The
names are those of NeSVoR 0.1 to 0.6.
"""

from __future__ import annotations

NO_VALUE = frozenset({
    "--deformable", "--img-reg-autodiff", "--no-augmentation-assess", "--no-augmentation-seg", "--no-global-exclusion",
    "--no-local-exclusion", "--no-pixel-robust-statistics", "--no-slice-robust-statistics", "--no-slice-scale",
    "--scanner-space", "--segmentation", "--single-precision",
})  # fmt: skip
"""Flags that no word belongs to."""
MANY_VALUES = frozenset({"--milestones", "--n-iter-rec"})
"""Flags that any number of words belong to; to all others belongs one."""


def _for(sentence: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), sentence)


_FIT = _for(
    "the fit stops by itself",
    "--n-iter --n-epochs --n-iter-rec --batch-size --n-samples --learning-rate --gamma --milestones --single-precision",
)
_NETWORK = _for(
    "the volume is a sum of Gaussians, and the data choose how many",
    "--n-features-per-level --log2-hashmap-size --level-scale --coarsest-resolution --coarse-resolution "
    "--finest-resolution --depth --width --n-features-z --n-features-slice",
)
_DEFORMATION = _for(
    "every slice moves as a rigid body",
    "--deformable --n-features-deform --n-features-per-level-deform --level-scale-deform "
    "--coarsest-resolution-deform --finest-resolution-deform --weight-deform",
)
_PRIOR = _for(
    "pixels left out of the fit choose how smooth the volume is",
    "--image-regularization --weight-image --delta --img-reg-autodiff",
)
_ROBUST = _for(
    "slices and pixels are weighted by their residuals, without thresholds",
    "--no-local-exclusion --no-global-exclusion --global-ncc-threshold --local-ssim-threshold",
)
_BIAS = _for(
    "bias fields are estimated where the data ask for it; --bias-field-correction evens out every stack first",
    "--n-levels-bias --weight-bias",
)
_N4 = _for(
    "N4 has settings of its own",
    "--n-proc-n4 --shrink-factor-n4 --tol-n4 --spline-order-n4 --noise-n4 --n-iter-n4 --n-levels-n4 "
    "--n-control-points-n4 --n-bins-n4",
)
_SEGMENTATION = _for(
    "the network that finds the brain has no such setting",
    "--batch-size-seg --no-augmentation-seg --dilation-radius-seg --threshold-small-seg",
) | _for("", "--segmentation")
_ASSESSMENT = _for("no network judges the stacks", "--batch-size-assess --no-augmentation-assess")
_REGISTRATION = _for("slices are registered to the volume itself, without a network", "--svort-version") | _for(
    "", "--scanner-space"
)
_SAMPLING = _for(
    "the volume is what the Gaussians are at its voxels",
    "--output-psf-factor --inference-batch-size --n-inference-samples",
)
_VOLUME = {
    "--sample-orientation": "the volume lies along the axes of scanner space",
    "--sample-mask": "the volume covers the motion-corrected masks",
    "--no-slice-scale": "every slice has a gain of its own",
    "--weight-transformation": "slices are held to their neighbours in time",
}
_JSON = {"--output-json": "the images are all that is found"}
_SCALE = {"--output-intensity-mean": "the volume is on the scale of the stacks"}
_SLICES = {"--sample-mask": "slices are shown as far as they have masks"}
_DEVICE, _SEED = {"--device": ""}, {"--seed": ""}

UNUSED: dict[str, dict[str, str]] = {
    "reconstruct": (
        _FIT | _NETWORK | _DEFORMATION | _PRIOR | _ROBUST | _BIAS | _N4 | _SEGMENTATION | _ASSESSMENT | _REGISTRATION
        | _SAMPLING | _VOLUME
    ),
    "register": _REGISTRATION | {"--segmentation": ""},
    "assess": _ASSESSMENT | {"--segmentation": ""} | _DEVICE | _SEED,
    "correct-bias-field": _N4 | _JSON | _DEVICE | _SEED,
    "segment-stack": _SEGMENTATION | _JSON | _DEVICE | _SEED,
    "sample-volume": _SAMPLING | _SCALE | _JSON | _SEED,
    "sample-slices": _SLICES | _JSON | _SEED,
}  # fmt: skip
"""For every command, its flags that change nothing, and why; with nothing to say, they ask for what is done anyway."""

_WITHOUT_NETWORK = "slices are registered to the volume itself, without a network"
_NCC = "no network judges the stacks, the correlation of neighbouring slices does"

SAID_HERE: dict[tuple[str, str], tuple[tuple[str, ...], str]] = {
    ("--verbose", "0"): (("--quiet",), ""),
    ("--verbose", "1"): ((), ""),
    ("--verbose", "2"): (("--verbose",), ""),
    ("--registration", "svort"): ((), ""),
    ("--registration", "svort-only"): ((), _WITHOUT_NETWORK),
    ("--registration", "svort-stack"): ((), _WITHOUT_NETWORK),
    ("--n-levels-bias", "0"): ((), ""),
    ("--no-pixel-robust-statistics", ""): (("--no-pixel-variance",), ""),
    ("--no-slice-robust-statistics", ""): (("--no-slice-variance",), ""),
    ("--psf", "gaussian"): (("--slice-profile", "gaussian"), ""),
    ("--psf", "sinc"): (("--slice-profile", "sinc"), ""),
    ("--metric", "iqa2d"): (("--metric", "ncc"), _NCC),
    ("--metric", "iqa3d"): (("--metric", "ncc"), _NCC),
}
"""A flag with its value: how it is said here, and what to tell about it."""

RENAMED = {"svr": "reconstruct"}
"""Commands that are another one here."""
