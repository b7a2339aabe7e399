"""How a machine is divided among subjects, and what a batch system is asked for."""

from __future__ import annotations

import signal
import sys

import pytest

from slicesplat.cohort.clusters import ClusterSettings, client_of, job_cluster, local_share, needed
from slicesplat.errors import InputError


@pytest.mark.parametrize(
    ("settings", "subjects", "size", "expected"),
    [
        (ClusterSettings(), 100, 1e9, (8, 1)),
        (ClusterSettings(), 2, 1e9, (2, 4)),
        (ClusterSettings(), 100, 5.7e9, (3, 1)),  # (5.7 + 0.3) GB three times in 0.9 * 20 GB
        (ClusterSettings(), 100, 50e9, (1, 1)),
        (ClusterSettings(), 100, 0.0, (8, 1)),
        (ClusterSettings(threads_per_subject=2), 100, 1e9, (4, 2)),
        (ClusterSettings(workers=3), 100, 1e9, (3, 1)),
        (ClusterSettings(memory=4.0), 100, 1e9, (3, 1)),
    ],
)
def test_cores_and_memory_bound_how_many_run_at_once(
    settings: ClusterSettings, subjects: int, size: float, expected: tuple[int, int]
) -> None:
    share = local_share(settings, [size] * subjects, cores=8, free=20e9)
    assert (share.workers, share.threads) == expected


def test_there_is_one_worker_for_each_gpu() -> None:
    share = local_share(ClusterSettings(), [1e9] * 100, cores=8, free=200e9, gpus=2)
    assert (share.workers, share.threads, share.gpus) == (2, 4, 2)


@pytest.mark.parametrize("system", ["slurm", "pbs", "sge"])
def test_jobs_ask_for_one_subject_and_pass_options_on(system: str) -> None:
    options = {"slurm": "--partition=long", "pbs": "-q long", "sge": "-q long.q"}
    settings = ClusterSettings(**{system: True}, threads_per_subject=2, job_option=(options[system],))
    with job_cluster(settings, 3.2e9) as cluster:
        script = cluster.job_script()
    assert options[system] in script
    assert "distributed.cli.dask_worker" in script and "--nthreads 1" in script
    if system == "slurm":
        assert "--cpus-per-task=2" in script and "--mem=4G" in script


def test_two_places_to_run_are_refused() -> None:
    with pytest.raises(ValueError, match="more than one is given"):
        ClusterSettings(slurm=True, pbs=True)


def test_a_scheduler_that_does_not_answer_is_refused() -> None:
    with (
        pytest.raises(InputError, match="no Dask scheduler answers there; "),
        client_of(ClusterSettings(scheduler="tcp://127.0.0.1:9"), local_share(ClusterSettings(), [], 1, None), 0.0),
    ):
        pass


def test_ctrl_c_stays_ours_whatever_a_library_does_when_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    before = signal.getsignal(signal.SIGINT)
    needed("dask_jobqueue")
    assert signal.getsignal(signal.SIGINT) is before
