"""NeSVoR 0.6's flags, each with a value, by command; and command lines that its users have published."""

from __future__ import annotations

_COMMON = "--device 0 --verbose 1 --output-log log.txt --seed 1 --debug"
_STACKS = (
    "--stack-masks m1.nii.gz m2.nii.gz --volume-mask v.nii.gz --stacks-intersection --background-threshold 0 "
    "--otsu-thresholding"
)
_SAMPLING = "--output-resolution 0.8 --output-intensity-mean 700 --sample-orientation o.nii.gz --sample-mask s.nii.gz"
_MODEL = "--inference-batch-size 32768 --n-inference-samples 512 --output-psf-factor 1.0"
_SEGMENTATION = "--batch-size-seg 16 --no-augmentation-seg --dilation-radius-seg 1.0 --threshold-small-seg 0.1"
_N4 = (
    "--n-proc-n4 8 --shrink-factor-n4 2 --tol-n4 0.001 --spline-order-n4 3 --noise-n4 0.01 --n-iter-n4 50 "
    "--n-levels-n4 4 --n-control-points-n4 4 --n-bins-n4 200"
)
_ASSESSMENT = (
    "--metric ncc --filter-method percentage --cutoff 0.3 --batch-size-assess 8 --no-augmentation-assess "
    "--output-json result.json"
)
_SVORT = "--registration svort --svort-version v2 --scanner-space"
_FROM_STACKS = (
    f"--input-stacks s1.nii.gz s2.nii.gz --thicknesses 3 3 {_STACKS} --output-volume v/volume.nii.gz "
    f"--output-slices slices --simulated-slices simulated {_SAMPLING} --segmentation {_SEGMENTATION} "
    f"--bias-field-correction {_N4} {_ASSESSMENT} {_SVORT} {_COMMON}"
)

FLAGS = {
    "reconstruct": (
        f"{_FROM_STACKS} {_MODEL} --output-model model.pt "
        "--n-features-per-level 2 --log2-hashmap-size 19 --level-scale 1.3819 --coarsest-resolution 16 "
        "--finest-resolution 0.5 --n-levels-bias 0 --depth 1 --width 64 --n-features-z 15 --n-features-slice 16 "
        "--no-transformation-optimization --no-slice-scale --no-pixel-variance --no-slice-variance --deformable "
        "--n-features-deform 8 --n-features-per-level-deform 4 --level-scale-deform 1.3819 "
        "--coarsest-resolution-deform 32 --finest-resolution-deform 8 --weight-transformation 0.1 --weight-bias 100 "
        "--image-regularization edge --weight-image 1 --delta 0.2 --img-reg-autodiff --weight-deform 0.1 "
        "--learning-rate 5e-3 --gamma 0.33 --milestones 0.5 0.75 0.9 --n-iter 6000 --n-epochs 30 --batch-size 4096 "
        "--n-samples 256 --single-precision"
    ),
    "svr": (
        f"{_FROM_STACKS} --no-slice-robust-statistics --no-pixel-robust-statistics --no-local-exclusion "
        "--no-global-exclusion --global-ncc-threshold 0.5 --local-ssim-threshold 0.4 --with-background --n-iter 3 "
        "--n-iter-rec 7 7 21 --psf gaussian --delta 0.2"
    ),
    "register": (
        f"--input-stacks s1.nii.gz s2.nii.gz --thicknesses 3 3 {_STACKS} --output-slices slices "
        f"--output-json r.json {_SVORT} {_COMMON}"
    ),
    "segment-stack": (
        f"--input-stacks s1.nii.gz s2.nii.gz {_STACKS} --output-stack-masks o1.nii.gz o2.nii.gz "
        f"--output-json r.json {_SEGMENTATION} {_COMMON}"
    ),
    "correct-bias-field": (
        f"--input-stacks s1.nii.gz s2.nii.gz {_STACKS} --output-corrected-stacks o1.nii.gz o2.nii.gz "
        f"--output-json r.json {_N4} {_COMMON}"
    ),
    "assess": f"--input-stacks s1.nii.gz s2.nii.gz {_STACKS} {_ASSESSMENT} {_COMMON}",
    "sample-volume": f"--input-model m.safetensors --output-volume v.nii.gz --output-json r.json {_SAMPLING} {_MODEL} "
    f"{_COMMON}",
    "sample-slices": "--input-slices slices --input-model m.safetensors --simulated-slices simulated "
    f"--output-json r.json --sample-mask s.nii.gz {_COMMON}",
}
"""Every flag of each command."""

_IN = "--input-stacks stack-1.nii.gz stack-2.nii.gz stack-3.nii.gz"
_MASKED = f"{_IN} --stack-masks mask-1.nii.gz mask-2.nii.gz mask-3.nii.gz"

PUBLISHED = {
    "README, basic": f"reconstruct {_MASKED} --output-volume volume.nii.gz",
    "README, elaborate": (
        f"reconstruct {_MASKED} --thicknesses 3 3 3 --output-volume volume.nii.gz --output-resolution 0.8 "
        "--output-model model.pt --weight-image 1.0 --image-regularization edge --delta 0.2 --n-iter 5000 "
        "--level-scale 1.38 --coarsest-resolution 16.0 --finest-resolution 0.5 --n-levels-bias 0 --n-samples 128"
    ),
    "README, fetal brain": (
        f"reconstruct {_IN} --thicknesses 3 3 3 --output-volume volume.nii.gz --output-resolution 0.8 "
        "--registration svort --svort-version v2 --segmentation --bias-field-correction"
    ),
    "documentation, neonatal brain": (
        f"reconstruct {_IN} --thicknesses 3 3 3 --output-volume volume.nii.gz --output-resolution 0.8 "
        "--otsu-thresholding --bias-field-correction"
    ),
    "documentation, body": (
        f"reconstruct {_IN} --thicknesses 3 3 3 --output-volume volume.nii.gz --output-resolution 1.0 "
        "--stacks-intersection --registration stack --deformable --weight-transformation 1 --weight-deform 0.1 "
        "--weight-image 0.1 --single-precision --log2-hashmap-size 22 --batch-size 8192"
    ),
    "README, register": f"register {_MASKED} --registration svort --output-slices slices",
    "README, bias field": (
        f"correct-bias-field {_MASKED} --output-corrected-stacks corrected-1.nii.gz corrected-2.nii.gz "
        "corrected-3.nii.gz"
    ),
    "README, assess": f"assess {_MASKED} --metric matrix-rank --output-json result.json",
    "fetpype": (
        f"reconstruct {_MASKED} --output-volume recon/nesvor/volume.nii.gz --batch-size 4096 --n-proc-n4 4 "
        "--bias-field-correction --n-levels-bias 1"
    ),
    "a clinic's container": (
        f"reconstruct {_MASKED} --output-volume out/recon/nesvor.nii.gz --output-model out/recon/nesvor.pt "
        "--output-resolution 0.8 --n-levels-bias 1 --bias-field-correction"
    ),
    "a server": (
        f"reconstruct {_MASKED} --thicknesses 3.0 3.0 3.0 --output-volume job/out/volume.nii.gz "
        "--output-json job/out/result.json --output-resolution 0.8 --registration svort --segmentation "
        "--bias-field-correction --stacks-intersection --n-iter 6000 --single-precision "
        "--weight-transformation 0.1 --weight-deform 0.1 --weight-image 1.0 --batch-size 4096 --log2-hashmap-size 19 "
        "--verbose 1"
    ),
    "svr in a script": (
        f"svr {_MASKED} --output-volume svr.nii.gz --simulated-slices simulated --output-slices slices "
        "--no-global-exclusion --n-iter 5 --n-iter-rec 3 --device 0 --verbose 2"
    ),
}
"""Command lines as published, on three stacks and their masks."""
