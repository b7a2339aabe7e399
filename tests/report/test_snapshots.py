"""Snapshots show the field on its way and change nothing; an animation shows all of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reconstructions import brief, result, small, values

from slicesplat.errors import InputError
from slicesplat.io.folder import check_owned
from slicesplat.records import SweepRecord
from slicesplat.report.snapshots import SNAPSHOT_FILES, Snapshots, save_animation, snapshot_files


@pytest.fixture(scope="module")
def seen() -> Snapshots:
    watch = Snapshots()
    made = brief(small().stacks, watch=watch)
    np.testing.assert_array_equal(values(made), values(result()))
    assert made.json()["slices"] == result().json()["slices"]
    assert len(watch.pictures) == len(made.sweeps)
    return watch


def test_the_result_is_the_same_bytes_and_every_sweep_has_a_picture(seen: Snapshots) -> None:
    pictures = [np.asarray(Image.open(io.BytesIO(picture))) for picture in seen.pictures]
    assert len({picture.shape for picture in pictures}) == 1
    assert all((picture > 60).mean() > 0.05 for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[-1])


def test_pictures_are_in_the_folder_while_the_fit_goes_on(seen: Snapshots, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "frames"
    for length in (3, 2):  # of an earlier, longer run nothing stays
        watch, field = Snapshots(folder), result().model.field
        for number in range(1, length + 1):
            watch(field, SweepRecord("poses", 0.1))
            assert [path.name for path in snapshot_files(folder)] == [f"{n:04d}.png" for n in range(1, number + 1)]
        watch.check_written(folder)
    check_owned(folder, SNAPSHOT_FILES)
    (tmp_path / "file").write_bytes(b"")
    watch = Snapshots(tmp_path / "file" / "frames")
    watch(field, SweepRecord("poses", 0.1))
    with pytest.raises(OSError, match="file"):
        watch.check_written(folder)


def test_an_animation_has_all_pictures_and_rests_at_the_last(seen: Snapshots, tmp_path: Path) -> None:
    seen.save(tmp_path / "frames")
    files = snapshot_files(tmp_path / "frames")
    assert [path.name for path in files] == [f"{n:04d}.png" for n in range(1, len(seen.pictures) + 1)]
    save_animation(files, tmp_path / "a.gif", seconds=1.0, rest=2.0)
    moving = Image.open(tmp_path / "a.gif")
    assert moving.n_frames == len(files) and moving.info["loop"] == 0
    moving.seek(moving.n_frames - 1)
    assert moving.info["duration"] == pytest.approx(1000 / len(files) + 2000, abs=10)


def test_a_video_has_all_pictures(seen: Snapshots, tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="MP4 needs the extra `video`")
    import imageio.v3 as iio

    seen.save(tmp_path / "frames")
    files = snapshot_files(tmp_path / "frames")
    save_animation(files, tmp_path / "a.mp4", seconds=1.0, rest=0.5)
    frames = iio.imread(tmp_path / "a.mp4", plugin="FFMPEG")
    assert len(frames) >= len(files)
    last = np.asarray(Image.open(files[-1])).astype(float)[: frames.shape[1], : frames.shape[2]]
    assert np.corrcoef(frames[-1][..., 0].ravel(), last.ravel())[0, 1] > 0.98


def test_folders_without_snapshots_and_odd_pictures_are_refused(seen: Snapshots, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no snapshots"):
        snapshot_files(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        snapshot_files(tmp_path / "none")
    (tmp_path / "0001.png").write_bytes(seen.pictures[0])
    (tmp_path / "0002.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0002\.png: cannot be read"):
        save_animation(snapshot_files(tmp_path), tmp_path / "a.gif", 1.0, 1.0)
    assert not (tmp_path / "a.gif").exists()
