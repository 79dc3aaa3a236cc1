"""A run as part of a Slurm job: who starts its processes, and what happens when the job's time ends.

Lightning has a requeueing of its own, which writes a second kind of checkpoint beside ``last.ckpt``. It is switched off
here: :class:`~sppcls.engine.callbacks.saving.Saving` saves, and then asks Slurm to queue the job again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading

from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from sppcls._util.reason import reason_of
from sppcls.errors import ConfigError


def slurm_environment(devices: int, num_nodes: int) -> SLURMEnvironment | None:
    """How the processes that ``srun`` has started find each other; None where ``srun`` has not started this one.

    Args:
        devices: processes on each node, as the config says.
        num_nodes: nodes, as the config says.

    Raises:
        ConfigError: the job has another number of tasks.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return None
    tasks = os.environ.get("SLURM_NTASKS_PER_NODE")
    if tasks is None and int(os.environ["SLURM_NTASKS"]) > 1:
        raise ConfigError(
            f"this Slurm job has SLURM_NTASKS={os.environ['SLURM_NTASKS']}; give sbatch --ntasks-per-node instead of --ntasks"
        )
    nodes = os.environ.get("SLURM_NNODES", "1")
    for key, here, name in (
        (f"trainer.devices={devices}", tasks or "1", "--ntasks-per-node"),
        (f"trainer.num_nodes={num_nodes}", nodes, "--nodes"),
    ):
        if key.partition("=")[2] != here:
            raise ConfigError(
                f"{key}: this Slurm job has {name}={here}; trainer=slurm takes both from the job"
            )
    return SLURMEnvironment(auto_requeue=False)


def slurm_job() -> str | None:
    """The number by which Slurm knows this job; None outside of one."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID")


def queue_again() -> str:
    """Ask Slurm to queue this job again, which ends it; returns why that failed, nothing if it did not.

    Slurm sends SIGTERM at once. Where this works it is ignored from then on, so that what is left to say is said.
    """
    command = ["scontrol", "requeue", str(slurm_job())]
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN) if main else None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        reason = "" if not done.returncode else done.stderr.strip() or f"exit status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if main and reason:
        signal.signal(signal.SIGTERM, before)
    return f"{' '.join(command)}: {reason_of(reason)}" if reason else ""
