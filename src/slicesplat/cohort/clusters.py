"""Where a cohort is computed: on this machine, a Dask cluster that is there, or one that a batch system starts."""

from __future__ import annotations

import logging
import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from slicesplat.errors import InputError
from slicesplat.machine import available_memory

log = logging.getLogger("slicesplat")

GB = 1e9
BatchSystem = Literal["slurm", "pbs", "sge"]
_SHARE = 0.9
"""Of the memory that is free, for subjects: workers and the system take some."""
_WORKER_MEMORY = 0.3e9
"""Bytes of a worker beside what its subject takes."""
_LOOKED_AFTER = 5.0
"""s after which it is seen whether there are as many jobs as there are to be."""
_SELDOM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "5s",
    "distributed.deploy.cluster-repr-interval": "5s",
}
"""How often Dask looks after itself: made for tasks of milliseconds, it would do so hundreds of times a second."""
TRIES = 2
"""How often a subject is tried again whose worker has died."""


@dataclass(frozen=True)
class ClusterSettings:
    """Where subjects run.

    Attributes
    ----------
    scheduler : str
        Address of a Dask scheduler, whose workers do as many subjects at a time as they have threads. None: this
        machine.
    slurm : bool
        Start workers as jobs of SLURM.
    pbs : bool
        Start workers as jobs of PBS.
    sge : bool
        Start workers as jobs of SGE.
    jobs : int
        How many jobs.
    job_option : texts
        Passed on to the batch system, as --partition=long.
    workers : int
        Subjects at a time on this machine. 0: as cores and memory allow.
    threads_per_subject : int
        0: one, or more where there are fewer subjects than cores.
    memory : float
        GB that all subjects on this machine may take together. 0: what is free.
    """

    scheduler: str | None = None
    slurm: bool = False
    pbs: bool = False
    sge: bool = False
    jobs: int = 4
    job_option: tuple[str, ...] = ()
    workers: int = 0
    threads_per_subject: int = 0
    memory: float = 0.0

    def __post_init__(self) -> None:
        if sum((self.scheduler is not None, self.slurm, self.pbs, self.sge)) > 1:
            raise ValueError("--scheduler, --slurm, --pbs and --sge: more than one is given; choose where to run")
        if self.jobs < 1 or min(self.workers, self.threads_per_subject) < 0 or not 0 <= self.memory < math.inf:
            raise ValueError("--jobs, --workers, --threads-per-subject and --memory: give positive numbers")

    @property
    def system(self) -> BatchSystem | None:
        """The batch system that starts workers; None for none."""
        return "slurm" if self.slurm else "pbs" if self.pbs else "sge" if self.sge else None


@dataclass(frozen=True)
class Share:
    """What subjects get of a machine.

    Attributes
    ----------
    workers : int
        Subjects at a time.
    threads : int
        Of each.
    gpus : int
        Of the machine; worker i takes that of number i.
    """

    workers: int
    threads: int
    gpus: int = 0


def local_share(
    settings: ClusterSettings, memories: Sequence[float], cores: int, free: float | None, gpus: int = 0
) -> Share:
    """How a machine is divided: by cores, and so that as many of the largest subjects as run at once fit its memory.

    Parameters
    ----------
    settings : ClusterSettings
    memories : sequence of float
        Bytes that the subjects take; 0 where it is not known.
    cores : int
    free : float or None
        Bytes; None where it is not known.
    gpus : int

    Examples
    --------
    >>> local_share(ClusterSettings(), [3e9] + 40 * [1e9], cores=8, free=8e9)
    Share(workers=2, threads=1, gpus=0)
    >>> local_share(ClusterSettings(), [1e9, 1e9], cores=8, free=8e9)
    Share(workers=2, threads=4, gpus=0)
    """
    limit = settings.memory * GB or (math.inf if free is None else _SHARE * free)
    most = max(memories, default=0.0) + _WORKER_MEMORY
    fitting = limit / most
    subjects = max(len(memories), 1)
    wanted = settings.workers or gpus or cores // max(settings.threads_per_subject, 1)
    workers = max(1, min(wanted, subjects, int(min(fitting, subjects))))
    if workers < min(wanted, subjects):
        log.info("memory for %d of %d subjects at a time: the largest takes about %.1f GB", workers, wanted, most / GB)
    threads = settings.threads_per_subject or (max(1, cores // workers) if subjects < cores or gpus else 1)
    return Share(workers, threads, gpus)


def job_cluster(settings: ClusterSettings, memory: float) -> Any:
    """A cluster whose workers are jobs of a batch system, one subject at a time each; none is asked for yet.

    Parameters
    ----------
    settings : ClusterSettings
    memory : float
        Bytes of the largest subject; 0 where it is not known.

    Raises
    ------
    InputError
        dask-jobqueue is not installed.
    """
    system = settings.system
    jobqueue = needed("dask_jobqueue")
    threads = max(1, settings.threads_per_subject)
    size = math.ceil((max(memory, 2 * GB) + _WORKER_MEMORY) / GB)
    common = {
        "cores": threads,
        "processes": 1,
        "memory": f"{size}GB",
        "job_extra_directives": list(settings.job_option),
        # One subject at a time, whatever cores the job has.
        "worker_extra_args": ["--nthreads", "1"],
        "python": shlex.quote(sys.executable),
        # Any free port: others may run on this machine too.
        "scheduler_options": {"dashboard_address": ":0"},
    }
    kind = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster"}[str(system)]
    return getattr(jobqueue, kind)(**common)


@contextmanager
def client_of(settings: ClusterSettings, share: Share, memory: float) -> Iterator[Any]:
    """A client of the cluster that the settings ask for, which ends with the block, if it was started for it.

    Raises
    ------
    InputError
        The libraries are not installed, the scheduler does not answer, or the batch system's programs are not there.
    """
    distributed, dask = needed("distributed"), needed("dask")
    # Of a run that is interrupted Python's own process for shared resources would say, last, what it has cleaned up.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
    with dask.config.set(_dask_settings()):
        if settings.scheduler is not None:
            try:
                client = distributed.Client(settings.scheduler)
            except (OSError, ValueError, TimeoutError) as error:
                raise InputError(
                    f"{settings.scheduler}: no Dask scheduler answers there; check the address, or start one"
                ) from error
            with client:
                yield client
            return
        started = _local if settings.system is None else _jobs
        with started(distributed, settings, share, memory) as cluster, distributed.Client(cluster) as client:
            yield client


def _dask_settings() -> dict[str, Any]:
    given: dict[str, Any] = {
        "distributed.scheduler.allowed-failures": TRIES,
        "distributed.comm.timeouts.connect": "15s",
        **_SELDOM,
    }
    if sys.platform == "linux":
        # Workers are forked from a process that has imported what they need: a second of processor time less for each.
        given["distributed.worker.multiprocessing-method"] = "forkserver"
    return given


@contextmanager
def _local(distributed: ModuleType, settings: ClusterSettings, share: Share, memory: float) -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=share.workers,
        threads_per_worker=1,
        # Subjects are processes of their own, whose memory the workers do not count.
        memory_limit=0,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0" if has_dashboard() else None,
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


@contextmanager
def _jobs(distributed: ModuleType, settings: ClusterSettings, share: Share, memory: float) -> Iterator[Any]:
    """Jobs of a batch system: others take the place of those that end, by the queue's limit of time or with their node.

    Dask notices that they are gone, and asks for others only when it is told how many there are to be.
    """
    ended = threading.Event()
    with job_cluster(settings, memory) as cluster:
        cluster.scale(jobs=share.workers)

        def look_after() -> None:
            if not ended.is_set():
                cluster.scale(jobs=share.workers)
                cluster.loop.call_later(_LOOKED_AFTER, look_after)

        cluster.loop.add_callback(cluster.loop.call_later, _LOOKED_AFTER, look_after)
        try:
            yield cluster
        finally:
            ended.set()


def has_dashboard() -> bool:
    """Whether what draws Dask's dashboard is installed."""
    from importlib.util import find_spec

    return find_spec("bokeh") is not None


def needed(name: str) -> ModuleType:
    """A library of the extra ``slicesplat[cluster]``.

    Raises
    ------
    InputError
        It is not installed.
    """
    from importlib import import_module

    # dask-jobqueue ends the program at Ctrl-C from its import on, whoever imports it: that is not for a library to say.
    interrupted = signal.getsignal(signal.SIGINT)
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"{name} is not installed; pip install 'slicesplat[cluster]'") from error
    finally:
        if signal.getsignal(signal.SIGINT) is not interrupted:
            signal.signal(signal.SIGINT, interrupted)


def this_machine(settings: ClusterSettings, memories: Sequence[float], gpus: int) -> Share:
    """`local_share` of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return local_share(settings, memories, cores, available_memory(), gpus)
