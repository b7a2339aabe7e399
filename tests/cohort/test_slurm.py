"""SLURM itself, one node of it on this machine: workers as jobs, jobs that are cancelled, and plain job arrays."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from cohorts import states, subject, table, until

# Not imported: it would take Ctrl-C from the tests that follow in this process.
pytestmark = [
    pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed"),
    pytest.mark.skipif(not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch"))), reason="SLURM is not installed"),
]

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CryptoType=crypto/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=1
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=20000 State=UNKNOWN
PartitionName=long Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.strip()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "slurm"
    (folder / "spool").mkdir(parents=True)
    about = {"host": socket.gethostname().split(".")[0], "user": getpass.getuser(), "folder": folder}
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(**about, ports=free_ports(2)))
    monkeypatch.setenv("SLURM_CONF", str(configuration))
    monkeypatch.setenv("DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT", "1s")
    log = (folder / "log").open("w")
    daemons = [
        subprocess.Popen([shutil.which(name) or name, "-D", "-f", str(configuration)], stdout=log, stderr=log)
        for name in ("slurmctld", "slurmd")
    ]
    try:
        if not until(lambda: "idle" in subprocess.run(["sinfo", "-h"], capture_output=True, text=True).stdout, 20):
            pytest.skip("SLURM does not start here")
        yield
    finally:
        subprocess.run(["scancel", "--user", about["user"]], capture_output=True)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
        log.close()


def test_a_cancelled_job_is_replaced_and_an_array_does_the_rest(
    slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = table(tmp_path, ["s0", "s1"], **{"output-resolution": "2.0", "registration": "none"})
    (tmp_path / "s1-mask-0.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)  # where SLURM leaves what jobs have said
    words = [sys.executable, "-m", "slicesplat", "batch", str(study), str(out)]
    by_jobs = ["--slurm", "--jobs", "1", "--job-option=--partition=long"]
    with subprocess.Popen([*words, *by_jobs, "--quiet"], stderr=subprocess.PIPE, text=True) as batch:
        assert until(lambda: any((out / ".slicesplat-batch").glob("*.lock"))), "no subject was begun"
        said("scancel", *said("squeue", "-h", "-o", "%i").split())
        try:
            told = batch.communicate(timeout=150)[1]
        finally:
            batch.terminate()
    assert batch.returncode == 1 and "s1: s1-mask-0.nii.gz: " in told
    assert states(out) == {"s0": "done", "s1": "failed"}
    volume = (out / "s0" / "volume.nii.gz").stat().st_mtime_ns

    subject(tmp_path, "s1")
    shard = "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    job = tmp_path / "job.sh"
    job.write_text(f'#!/bin/bash\n{" ".join(words)} --workers 1 --shard "{shard}"\n')
    said("sbatch", "--wait", "--array=1-2", "--export=ALL", str(job))
    assert states(out) == {"s0": "done", "s1": "done"}
    assert (out / "s0" / "volume.nii.gz").stat().st_mtime_ns == volume
    assert os.listdir(out / ".slicesplat-batch") and not list((out / ".slicesplat-batch").glob("*.lock"))
