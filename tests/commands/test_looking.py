"""`view`, `compare` and `animate` by the command line."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.request import urlopen

import nibabel as nib
import numpy as np
import pytest
from command_line import ball, refused, text, write
from reconstructions import brief, result, small
from scipy.ndimage import gaussian_filter

from slicesplat.cli import main
from slicesplat.io.model import save_model
from slicesplat.io.nifti import save_mask, save_stack


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that a command would have shown."""
    pages: list[str] = []
    for module in ("view", "compare"):
        monkeypatch.setattr(f"slicesplat.commands.{module}.serve", lambda page, *_: pages.append(page))
    return pages


def test_view_shows_a_volume_and_stacks_beside_it(tmp_path: Path, stack: str, served: list[str]) -> None:
    volume, _ = ball(tmp_path)
    assert main(["view", volume, stack, "--no-browser"]) == 0
    assert Path(volume).name in served[0] and "stack.nii.gz" in served[0]
    assert "connect-src data: blob: 'self'" in unescape(served[0])
    assert "new EventSource(page.live)" in served[0]


def test_view_shows_a_model_and_a_report(tmp_path: Path, served: list[str]) -> None:
    save_model(result().model, tmp_path / "model.safetensors")
    assert main(["view", str(tmp_path / "model.safetensors")]) == 0
    result().report(tmp_path / "page.html")
    assert main(["view", str(tmp_path / "page.html")]) == 0
    assert "model.safetensors" in served[0]
    assert "new EventSource('open')" in served[1] and "'self'" in served[1]


def test_view_shows_what_a_result_belongs_to(
    tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch, served: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    made = result()
    error = nib.Nifti1Image(np.asarray(made.volume.dataobj) / 10, made.volume.affine)
    known = replace(made, uncertainty=error)
    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", lambda *_, **__: known)
    out = tmp_path / "out"
    args = ["reconstruct", "--input-stacks", stack, "--output-volume", str(out / "volume.nii.gz"), "--quiet"]
    args += ["--output-uncertainty", str(out / "error.nii.gz"), "--output-json", str(out / "result.json")]
    assert main([*args, "--no-segmentation"]) == 0
    written = json.loads((out / "result.json").read_text())["files"]
    assert written == {"volume": "volume.nii.gz", "uncertainty": "error.nii.gz", "stacks": ["stack.nii.gz"]}
    assert main(["view", str(out / "result.json")]) == 0
    for shown in ("volume.nii.gz", '"key":"uncertainty"', f"verdict {made.verdict.grade}"):
        assert shown in served[0]
    assert '"stack.nii.gz"' not in served[0]
    assert "stack.nii.gz: is not beside result.json" in capsys.readouterr().err
    assert main(["view", str(out / "result.json"), stack]) == 0
    assert '"stack.nii.gz"' in served[1] and "not beside" not in capsys.readouterr().err
    Path(stack).rename(out / "stack.nii.gz")
    assert main(["view", str(out / "result.json")]) == 0
    assert '"stack.nii.gz"' in served[2]
    (out / "volume.nii.gz").unlink()
    refused(capsys, ["view", str(out / "result.json")], "result.json", "volume.nii.gz", "not beside it")
    refused(capsys, ["view", text(tmp_path / "other.json", "{}")], "other.json", "names no volume")


def test_view_serves_until_the_page_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, _ = ball(tmp_path)
    monkeypatch.setattr("slicesplat.report.serving.GRACE", 0.2)

    def browser(address: str) -> bool:
        def look() -> None:
            assert b"slicesplat" in urlopen(address, timeout=10).read()
            with urlopen(f"{address}open", timeout=10) as stream:
                stream.readline()

        threading.Thread(target=look, daemon=True).start()
        return True

    monkeypatch.setattr("webbrowser.open", browser)
    assert main(["view", volume]) == 0
    assert capsys.readouterr().out.startswith("http://127.0.0.1:")


def test_view_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["view", str(tmp_path / "none.nii.gz")], "none.nii.gz", "no such file")
    volume, _ = ball(tmp_path)
    refused(capsys, ["view", volume, "--port", "70000"], "70000")
    page = text(tmp_path / "page.html", "<p>")
    refused(capsys, ["view", page, volume], "page.html", "name no others")


def moved(path: Path, volume: str, shift: float) -> str:
    """A volume that lies elsewhere, noisier."""
    image = nib.load(volume)
    affine = image.affine.copy()
    affine[0, 3] += shift
    noise = np.random.default_rng(0).normal(0, 20, image.shape)
    return write(path, (image.get_fdata() * 2 + noise * (image.get_fdata() > 0)).astype(np.float32), affine)


def test_compare_finds_the_place_the_scale_and_the_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, region = ball(tmp_path)
    other = moved(tmp_path / "other.nii.gz", volume, 3.0)
    args = ["compare", volume, other, "--reference-mask", region, "--output-json", str(tmp_path / "c.json")]
    assert main([*args, "--output-report", str(tmp_path / "c.html")]) == 0
    assert "PSNR" in capsys.readouterr().out
    (score,) = json.loads((tmp_path / "c.json").read_text())["scores"].values()
    assert score["ncc"] > 0.98 and abs(abs(score["translation_mm"][0]) - 3.0) < 0.2
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert '"key":"difference"' in page and "other.nii.gz" in page


def test_compare_with_a_reference_scores_both(tmp_path: Path) -> None:
    volume, region = ball(tmp_path)
    other = moved(tmp_path / "other.nii.gz", volume, 0.0)
    args = ["compare", other, volume, "--reference", volume, "--reference-mask", region, "--no-register", "--quiet"]
    assert main([*args, "--output-json", str(tmp_path / "c.json")]) == 0
    first, second = json.loads((tmp_path / "c.json").read_text())["scores"].values()
    assert first["psnr"] < 40 < second["psnr"]


def test_the_better_volume_agrees_better_with_the_slices(tmp_path: Path) -> None:
    made = brief(small().stacks)
    nib.save(made.volume, tmp_path / "good.nii.gz")
    values = np.asarray(made.volume.dataobj)
    worse = np.where(values > 0, gaussian_filter(values, 2.0), 0).astype(np.float32)
    write(tmp_path / "blurred.nii.gz", worse, made.volume.affine)
    stacks, masks = [], []
    for number, stack in enumerate(small().stacks):
        save_stack(stack, tmp_path / f"s{number}.nii.gz")
        save_mask(stack, tmp_path / f"m{number}.nii.gz")
        stacks.append(str(tmp_path / f"s{number}.nii.gz"))
        masks.append(str(tmp_path / f"m{number}.nii.gz"))
    args = ["compare", str(tmp_path / "good.nii.gz"), str(tmp_path / "blurred.nii.gz"), "--no-register", "--quiet"]
    args += ["--input-stacks", *stacks, "--stack-masks", *masks, "--output-json", str(tmp_path / "c.json")]
    assert main(args) == 0
    seen = json.loads((tmp_path / "c.json").read_text())["slice_agreement"]
    assert len(seen["first"]["slices"]) == len(made.slices)
    assert seen["first"]["ncc_mean"] > 0.85
    assert seen["first"]["ncc_mean"] > seen["second"]["ncc_mean"] + 0.02


def test_compare_refuses_images_of_different_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    volume, region = ball(tmp_path)
    far = moved(tmp_path / "far.nii.gz", volume, 500.0)
    refused(capsys, ["compare", volume, far, "--reference-mask", region, "--no-register"], "far.nii.gz", "one brain")
    args = ["compare", volume, far, "--output-json", volume + ".json", "--output-report", volume]
    refused(capsys, args, "html")


def test_snapshots_become_an_animation(tmp_path: Path, stack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(*_: object, watch: object = None, **__: object) -> object:
        return brief(small().stacks, watch=watch)

    monkeypatch.setattr("slicesplat.commands.reconstruct.reconstruct", watched)
    frames, out = tmp_path / "frames", tmp_path / "out.nii.gz"
    args = ["reconstruct", "--input-stacks", stack, "--output-volume", str(out), "--snapshots", str(frames)]
    assert main([*args, "--no-segmentation", "--quiet"]) == 0
    assert len(list(frames.glob("*.png"))) == len(result().sweeps)
    assert main(["animate", "--snapshots", str(frames), "--output-animation", str(tmp_path / "a.gif")]) == 0
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF8")


def test_animate_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["animate", "--snapshots", str(tmp_path), "--output-animation", str(tmp_path / "a.gif")]
    refused(capsys, args, "holds no snapshots")
    refused(capsys, [*args, "--seconds", "0"], "--seconds")
    refused(capsys, ["animate", "--snapshots", str(tmp_path / "x"), "--output-animation", "a.avi"], "x")
