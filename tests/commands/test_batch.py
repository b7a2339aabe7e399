"""Many subjects on a cluster of two workers: bad ones, killed workers, second runs."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import pytest
from bids_data import data_set
from cohorts import kill_a_worker, subject, table
from command_line import refused

from slicesplat.cli import main
from slicesplat.cohort import engine
from slicesplat.cohort.task import JOURNAL, Outcome, Task, run

pytest.importorskip("distributed")

NAMES = ["s0", "s1"]


def lines(out: Path) -> dict[str, dict[str, str]]:
    with (out / "cohort.tsv").open(newline="") as file:
        return {line["participant_id"]: line for line in csv.DictReader(file, delimiter="\t")}


def test_a_bad_mask_and_a_killed_worker_cost_one_subject_and_nothing_is_done_twice(tmp_path: Path) -> None:
    study = table(tmp_path, NAMES, **{"output-resolution": "2.0", "registration": "none"})
    (tmp_path / "s1-mask-0.nii.gz").write_bytes(b"no image")
    out, killed = tmp_path / "out", []
    killer = threading.Thread(target=kill_a_worker, args=(out / JOURNAL, killed))
    killer.start()
    assert main(["batch", str(study), str(out), "--workers", "2", "--quiet"]) == 1
    killer.join()
    assert len(killed) == 1
    found = lines(out)
    assert [name for name in NAMES if found[name]["state"] == "done"] == [name for name in NAMES if name != "s1"]
    assert found["s1"]["state"] == "failed" and found["s1"]["reasons"].startswith("s1-mask-0.nii.gz: ")
    assert not list((out / JOURNAL).glob("*.lock"))
    volumes = {path: path.stat().st_mtime_ns for path in out.glob("*/volume.nii.gz")}
    assert len(volumes) == 1
    assert not [path for path in out.rglob(".slicesplat-*") if path.name != JOURNAL], "something half written is left"

    # A second run does what is left, and nothing else.
    subject(tmp_path, "s1")
    assert main(["batch", str(study), str(out), "--workers", "1", "--quiet"]) == 0
    assert {line["state"] for line in lines(out).values()} == {"done"}
    assert {path: path.stat().st_mtime_ns for path in volumes} == volumes


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """Without a cluster: every task that is run, none of which does anything."""
    tasks: list[Task] = []

    def run_all(client: object, given: list[Task], threads: int, told: engine.Told, gpus: int = 0) -> list[Outcome]:
        tasks.extend(given)
        for each in given:
            told(engine.Count(len(given)), Outcome(each.name, "written"))
        return []

    class Nobody:
        def __enter__(self) -> None: ...
        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr("slicesplat.commands.batch.run_all", run_all)
    monkeypatch.setattr("slicesplat.commands.batch.client_of", lambda *given: Nobody())
    return tasks


def test_settings_hold_for_all_and_rows_for_themselves(tmp_path: Path, run_here: list[Task]) -> None:
    study = table(tmp_path, ["a"], seed="5")
    flags = ["--output-resolution", "0.9", "--seed", "3", "--no-estimate-bias-field"]
    assert main(["batch", str(study), str(tmp_path / "out"), *flags]) == 0
    words = run_here[0].arguments
    assert words[words.index("--output-resolution") + 1] == "0.9"
    assert words[words.index("--seed") + 1] == "5" and words.count("--seed") == 1
    assert "--no-estimate-bias-field" in words
    assert run_here[0].memory > 1e8


def test_a_changed_setting_is_other_content_and_threads_are_not(tmp_path: Path, run_here: list[Task]) -> None:
    study, out = table(tmp_path, ["a"]), str(tmp_path / "out")
    for flags in ([], ["--seed", "3"], ["--threads", "2"]):
        assert main(["batch", str(study), out, *flags]) == 0
    usual, changed, threads = (each.options for each in run_here)
    assert usual == threads != changed


def test_shards_are_parts_and_the_overview_is_of_all(tmp_path: Path, run_here: list[Task]) -> None:
    study = table(tmp_path, ["a", "b", "c"])
    assert main(["batch", str(study), str(tmp_path / "out"), "--shard", "2/2"]) == 0
    assert [each.name for each in run_here] == ["b"]
    assert {name: line["state"] for name, line in lines(tmp_path / "out").items()} == {
        "a": "waiting", "b": "done", "c": "waiting"
    }  # fmt: skip


def test_a_data_set_is_done_as_slicesplat_bids_does_it(tmp_path: Path, run_here: list[Task]) -> None:
    root = data_set(tmp_path / "data", ("sub-01", "sub-02/ses-a"))
    out = root / "derivatives"
    flags = ["--masks-derivative", "masks", "--seed", "3", "--output-resolution", "2", "--registration", "none"]
    assert main(["batch", str(root), str(out), *flags]) == 0
    assert [each.name for each in run_here] == ["sub-01", "sub-02_ses-a"]
    words = run_here[1].arguments
    assert words[0] == "bids" and words[words.index("--session-label") + 1] == "a"
    assert (out / "slicesplat" / "cohort.html").is_file()
    outcome = run(run_here[0], 1)
    assert outcome.state == "written", outcome.error
    assert outcome.record is not None and outcome.record.figures.verdict is not None
    assert run(run_here[0], 1).state == "there"


def test_what_cannot_be_a_study_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    refused(capsys, ["batch", str(tmp_path / "none.csv"), out], "none.csv", "no such file")
    refused(capsys, ["batch", str(tmp_path), out], "dataset_description.json")
    study = str(table(tmp_path, ["a"]))
    refused(capsys, ["batch", study, out, "--participant-label", "a"], "is no data set")
    refused(capsys, ["batch", study, out, "--shard", "3/2"], "--shard 3/2")
    refused(capsys, ["batch", study, out, "--slurm", "--pbs"], "more than one is given")


def test_a_folder_that_is_missing_fails_one_subject(tmp_path: Path, run_here: list[Task]) -> None:
    study = table(tmp_path, ["a"])
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "b", "stacks": "none/*.nii.gz"}) + "\n")
    assert main(["batch", str(rows), str(tmp_path / "out")]) == 0
    assert "none/*.nii.gz: no file matches" in run(run_here[0], 1).error
    assert study.exists()
