"""Benchmarks leave records, and the tables in the documents are what the records say."""

from __future__ import annotations

import argparse
import getpass
import importlib
import json
import platform
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

Import = Callable[[str], ModuleType]

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "benchmarks"
RECORDS = sorted((SCRIPTS / "results").glob("*.json"))
KEYS = {"benchmark", "arguments", "commit", "source", "date", "processor", "cores", "versions", "complete", "rows"}
ACCURACY = {"case": "fetal-mild", "run": "motion unknown", "stacks": 3, "gaussians": 199105, "psnr": 31.578}
ACCURACY |= {"ssim": 0.957, "median_mm": 0.061, "under_2mm_share": 0.992, "wall_s": 12.3}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Imports a module of the benchmarks."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module
    for name in [name for name, module in sys.modules.items() if _is_script(module)]:
        del sys.modules[name]


def _is_script(module: ModuleType) -> bool:
    return Path(getattr(module, "__file__", None) or "/").parent == SCRIPTS


def recorded(records: ModuleType, folder: Path, name: str, rows: list[dict], complete: bool = True) -> Path:
    path = folder / f"{name}.json"
    records.Record(name, path, {"quick": False}).write(rows, complete)
    return path


def test_tables_in_the_documents_are_what_the_records_say(
    script: Import, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tables.py", "--check"])
    assert script("tables").main() == 0, "".join(capsys.readouterr())


def test_every_table_has_its_place_in_a_document(script: Import) -> None:
    tables = script("tables")
    marked = [found["name"] for page in tables.PAGES for found in tables.MARKED.finditer((ROOT / page).read_text())]
    assert sorted(marked) == sorted(tables.TABLES)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_say_what_they_belong_to_and_nothing_about_whose_machine_it_was(path: Path) -> None:
    text = path.read_text("utf-8")
    record = json.loads(text)
    assert record.keys() == KEYS
    assert record["complete"] and record["rows"]
    assert re.fullmatch(r"[0-9a-f]{40}\+?", record["commit"])
    assert not re.search(r'[" ](/[\w.-]+){2,}|[A-Z]:\\\\', text)


def test_a_record_names_no_folder_host_or_user(script: Import, tmp_path: Path) -> None:
    records = script("records")
    options = argparse.Namespace(
        cases=["/data/fetal-mild", "mial-sub01"], json=tmp_path / "x.json", pictures=tmp_path, count=3, quick=False
    )
    path = tmp_path / "x.json"
    records.Record("motion", path, vars(options)).write([{"case": "one", "median_mm": 0.1}], complete=True)
    text = path.read_text("utf-8")
    record = json.loads(text)
    assert record["arguments"] == {"cases": ["fetal-mild", "mial-sub01"], "count": 3, "quick": False}
    assert record["rows"] == [{"case": "one", "median_mm": 0.1}]
    assert record["versions"]["python"] == platform.python_version()
    assert record.keys() == KEYS
    for secret in (str(tmp_path), str(ROOT), platform.node(), getpass.getuser()):
        assert f"{secret}/" not in text and f'"{secret}"' not in text
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_a_record_that_is_not_complete_counts_for_nothing(script: Import, tmp_path: Path) -> None:
    records = script("records")
    path = recorded(records, tmp_path, "accuracy", [ACCURACY], complete=False)
    assert json.loads(path.read_text())["rows"] == [ACCURACY]
    assert records.read(path) is None
    assert records.read(recorded(records, tmp_path, "accuracy", [ACCURACY]))["rows"] == [ACCURACY]


def test_a_page_gets_its_tables_from_the_records_and_keeps_the_rest(script: Import, tmp_path: Path) -> None:
    tables, records = script("tables"), script("records")
    page = "before\n<!-- table: measured; no results yet -->\n| old |\n<!-- end -->\nafter\n"
    assert tables.filled(page, tmp_path) == page
    recorded(records, tmp_path, "accuracy", [ACCURACY])
    recorded(records, tmp_path, "least-squares", [{"case": "fetal-mild", "psnr": 28.59, "ssim": 0.928}])
    made = tables.filled(page, tmp_path)
    line = "| fetal, mild motion | 3 | 31.58 / 0.957 | 28.59 / 0.928 | 0.06 mm | 0.8 % |"
    assert line in made.splitlines()
    assert made.startswith("before\n<!-- table: measured -->\n| case |") and made.endswith("<!-- end -->\nafter\n")
    assert tables.filled(made, tmp_path) == made
    stale = made.replace("31.58", "32.58")
    assert tables.filled(stale, tmp_path) == made


def test_a_table_without_results_that_does_not_say_so_is_refused(script: Import, tmp_path: Path) -> None:
    tables = script("tables")
    with pytest.raises(ValueError, match=r"accuracy.json, least-squares.json among the results"):
        tables.filled("<!-- table: measured -->\n<!-- end -->", tmp_path)
    with pytest.raises(ValueError, match="there is no such table"):
        tables.filled("<!-- table: nothing; no results yet -->\n<!-- end -->", tmp_path)


def test_what_is_run_in_one_go_is_all_that_the_tables_need(script: Import) -> None:
    tables, together = script("tables"), script("run_all")
    assert {source for table in tables.TABLES.values() for source in table.sources} <= set(together.JOBS)
    assert all((SCRIPTS / job[0]).is_file() for job in together.JOBS.values())


def test_a_benchmark_is_not_repeated_on_the_same_source(
    script: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, together = script("records"), script("run_all")
    monkeypatch.setattr(together, "RESULTS", tmp_path)
    source = records.source_digest()
    assert not together.done("splat", source)
    recorded(records, tmp_path, "splat", [{"case": "one"}])
    assert together.done("splat", source)
    assert not together.done("splat", "of another state")


def test_intervals_of_cases_are_wider_than_those_of_as_many_slices(script: Import) -> None:
    intervals = script("intervals")
    assert intervals.wilson(0.5, 100) == pytest.approx((0.404, 0.596), abs=1e-3)
    # All slices of three cases of ten off: three of ten, not sixty of two hundred.
    share, low, high = intervals.of_cases([20] * 3 + [0] * 7, [20] * 10)
    assert share == 0.3 and (low, high) == pytest.approx(intervals.wilson(0.3, 10))
    # Scattered evenly they are what they are.
    assert intervals.of_cases([6] * 10, [20] * 10)[1:] == pytest.approx(intervals.wilson(0.3, 200))
    assert intervals.of_cases([0] * 10, [20] * 10)[2] == pytest.approx(intervals.wilson(0.0, 10)[1])


def test_scenarios_are_the_same_everywhere_and_of_every_kind(script: Import) -> None:
    scenarios = script("scenarios")
    made = [scenarios.scenario(number) for number in range(105)]
    assert made == [scenarios.scenario(number) for number in range(105)]
    assert {one.level for one in made} == set(scenarios.LEVELS)
    assert {one.trouble for one in made} == set(scenarios.TROUBLES)
    for one in made:
        fewest, most = scenarios.LEVELS[one.level][2]
        assert fewest <= one.stacks <= most


def test_a_run_that_was_ended_goes_on_on_the_same_source_and_loses_nothing_if_it_is_ended_again(
    script: Import, tmp_path: Path
) -> None:
    cases, records = script("cases"), script("records")
    rows = [{"number": 3, "case": "three"}, {"number": 7, "case": "seven"}, {"case": "all: 2 cases"}]
    path = recorded(records, tmp_path, "success", rows, complete=False)

    def begun(path: Path) -> Any:
        return cases.Rows("Success", "success", argparse.Namespace(json=path))

    again = begun(path)
    assert again.before == {3: rows[0], 7: rows[1]}
    again.add(number=1, case="one")
    again.add(**again.before[3])
    assert [row["number"] for row in json.loads(path.read_text("utf-8"))["rows"]] == [1, 3, 7]
    again.show()
    assert [row["number"] for row in json.loads(path.read_text("utf-8"))["rows"]] == [1, 3]
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**record, "source": "another"}))
    assert begun(path).before == {}
    assert begun(tmp_path / "none.json").before == {}


def test_success_of_a_level_counts_cases_slices_and_silence(script: Import) -> None:
    success = script("bench_success")
    good = {"success": "yes", "used": 40, "far": 0, "sound": 40, "lost": 1, "warnings": 0}
    bad = {**good, "success": "no", "far": 20}
    row = success.total("severe", [good, bad, {"success": "no", "refused": "nothing matches"}])
    assert row["success"].startswith("33.3 %") and row["used_over_3_mm"].startswith("25.0 %")
    assert row["sound_left_out"].startswith("2.5 %") and row["failed_silently"] == 1


def test_sound_cases_and_faults_of_every_kind_take_turns_and_no_case_is_in_two_sets(script: Import) -> None:
    faults = script("faults")
    made = [faults.trial(number) for number in range(64)]
    assert made == [faults.trial(number) for number in range(64)]
    assert [bool(one.fault) for one in made] == [False, True] * 32
    kinds = [one.fault for one in made if one.fault]
    assert {kinds.count(kind) for kind in faults.FAULTS} == {4}
    other = {faults.trial(number, "development").scenario.number for number in range(64)}
    assert not other & {one.scenario.number for one in made}


def test_what_the_verdict_catches_is_counted_by_whether_a_case_failed(script: Import) -> None:
    bench, tables = script("bench_verdict"), script("tables")
    rows = [
        {"error_db": 5.0, "grade": "check"},
        {"error_db": 4.0, "grade": "pass"},
        {"error_db": 0.5, "grade": "pass"},
        {"error_db": 0.5, "grade": "fail"},
        {"grade": "refused"},
    ]
    row = bench.total("half missing", rows)
    assert (row["cases"], row["failed"], row["failed_flagged"], row["others_flagged"]) == (5, 3, 2, 1)
    assert tables.verdict([row, *rows])[1] == [["half missing", "5", "3", "2", "1 of 2"]]


def test_masks_are_counted_by_what_the_stacks_show(script: Import) -> None:
    from slicesplat.segment.agree import FoundMask
    from slicesplat.segment.look import Seen

    bench, tables = script("bench_masks"), script("tables")
    brain, nothing = np.zeros((40, 40, 4), bool), np.zeros((40, 40, 4), bool)
    brain[10:30, 10:30] = True
    beside = np.roll(brain, 30, axis=0) & ~brain

    def answer(shown: np.ndarray, mask: np.ndarray, confidence: float = 0.9) -> Any:
        found = FoundMask(mask, np.full(4, confidence), confidence, float(mask.sum()))
        return bench.Answer(Seen(np.ones(brain.shape), np.diag([3.0, 3.0, 4.0, 1.0])), shown, found)

    made = [answer(brain, brain), answer(brain, nothing, 0.2), answer(brain, beside), answer(nothing, nothing)]
    rows = [one.told() for one in made]
    row = bench.summary(rows)
    assert (row["stacks"], row["missed"], row["off"], row["without"], row["left_out"]) == (4, 1, 1, 1, 1)
    assert row["poor"] == 2 and row["warned"] == 1
    assert bench.summary(rows[:1])["dice"] == 1.0
    line = tables.masks([{"case": "twins", "run": "all", **row}])[1][0]
    assert line == ["synthetic: twins", "4", "0.000", "0.000", "1", "1"]
