"""A Slurm cluster of two nodes, which are two network namespaces of this machine: Slurm's own daemons on each.

`apt-get install slurmctld slurmd slurm-client`; `pytest -m long tests/long/test_slurm_cluster.py -n 0 -s`, as root.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from machines import ADDRESSES, FIRST, ROOT, Machines, needs_namespaces

from sppcls.runs.checkpoint import read_checkpoint

PROGRAMS = ("slurmctld", "slurmd", "slurmstepd", "sbatch", "srun", "scontrol")
# No authentication: what is to be seen is how the job runs. 4 CPUs a node, whatever there are.
CONF = """
ClusterName=sppcls
SlurmctldHost={first}({address})
AuthType=auth/none
CredType=cred/none
# Seconds that a job queued again waits are those for which its old credential holds.
AuthInfo=cred_expire=10
SlurmUser=root
SlurmdUser=root
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/%n.pid
SlurmdTimeout=30
PluginDir={plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
# Takes its time over a step, so that the end of a job comes in the middle.
SLOW = """
import time
from pytorch_lightning import Callback

class Slow(Callback):
    def on_train_batch_end(self, *args):
        time.sleep(0.4)
"""

pytestmark = [
    pytest.mark.timeout(2400),
    needs_namespaces,
    pytest.mark.skipif(not all(map(shutil.which, PROGRAMS)), reason="Slurm is not installed"),
]


def plugins() -> Path:
    """Slurm's own parts, wherever its programs are."""
    root = Path(str(shutil.which("slurmctld"))).parents[1]
    for pattern in ("lib*/slurm*/auth_none.so", "lib*/*/slurm*/auth_none.so"):
        for found in root.glob(pattern):
            return found.parent
    pytest.skip("Slurm has no auth/none")


class Slurm(Machines):
    """The two machines, with Slurm's daemons."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place, self.plugins = place, plugins()
        path = os.pathsep.join([str(Path(sys.executable).parent), str(place), os.environ["PATH"]])
        self.environment = {**os.environ, "SLURM_CONF": str(place / "slurm.conf"), "PATH": path,
                            "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}  # fmt: skip

    def __enter__(self) -> Slurm:
        super().__enter__()
        (self.place / "state").mkdir(parents=True)
        nodes = "\n".join(f"NodeName={name} NodeAddr={at} CPUs=4" for name, at in ADDRESSES.items())
        conf = CONF.format(
            first=FIRST, address=ADDRESSES[FIRST], place=self.place, plugins=self.plugins, nodes=nodes
        )
        (self.place / "slurm.conf").write_text(conf)
        (self.place / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # none is used
        (self.place / "slow_steps.py").write_text(SLOW)
        (script,) = re.findall(
            r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "docs/cluster.md").read_text(), re.DOTALL
        )
        # There are no GPUs, no partition of that name and no environment in the checkout; Slurm counts no memory here.
        (self.place / "train.sbatch").write_text(
            re.sub(r"(#SBATCH --(gpus|partition|mem)|source ).*\n", "", script)
        )
        self._daemon(FIRST, "slurmctld", "-D")
        for name in ADDRESSES:
            self._daemon(name, "slurmd", "-D", "-N", name, "-d", str(shutil.which("slurmstepd")))
        self._wait(lambda: self.ask("sinfo", "--noheader", "--format=%D %T").strip() == "2 idle", 60)
        return self

    def _daemon(self, name: str, *command: str) -> None:
        with open(self.place / f"{name}-{command[0]}.out", "w") as output:
            self.start(name, command, env=self.environment, stdout=output)

    def _wait(self, happened: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while not happened():
            said = {path.name: path.read_text()[-2000:] for path in self.place.glob("*.out")}
            assert time.monotonic() < until, said
            time.sleep(1)

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs says on the first node."""
        process = self.start(FIRST, command, env=self.environment)
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        return output

    def submit(self, options: list[str], words: list[str]) -> str:
        """``sbatch`` of the script of docs/cluster.md; returns the job's number. Its output is in ``JOB.out``."""
        small = [
            "--chdir",
            str(ROOT),
            "--ntasks-per-node=1",
            "--cpus-per-task=1",
            f"--output={self.place}/%j.out",
        ]
        command = ["sbatch", "--parsable", *small, *options, str(self.place / "train.sbatch"), *words]
        return self.ask(*command).strip()

    def state(self, job: str) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.ask("scontrol", "show", "job", job).split())
        return {name: value for name, _, value in pairs}

    def finish(self, job: str) -> str:
        """The output of a job that has ended well."""
        self._wait(lambda: self.state(job)["JobState"] == "COMPLETED", 1200)
        return (self.place / f"{job}.out").read_text()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with Slurm(tmp_path_factory.mktemp("slurm") / "cluster") as slurm:
        yield slurm


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "last.ckpt")["state_dict"]


def test_two_nodes_are_as_two_processes_of_one_machine(
    tiny: Callable[..., list[str]], slurm: Slurm, tmp_path: Path
) -> None:
    words = tiny("data.batch_size=8")
    output = slurm.finish(slurm.submit([], [*words, "run_name=nodes"]))
    assert "batch 8 x 2" in output
    here = [sys.executable, "train.py", *words, "run_name=here", "trainer=ddp", "trainer.devices=2"]
    subprocess.run(here, cwd=ROOT, check=True, capture_output=True)
    nodes, one = (weights(tmp_path / "runs" / "shapes" / name) for name in ("nodes", "here"))
    assert all(torch.equal(nodes[name], one[name]) for name in one)


def test_a_job_whose_time_ends_is_queued_again_and_goes_on(
    tiny: Callable[..., list[str]], slurm: Slurm, tmp_path: Path
) -> None:
    words = tiny("data.batch_size=2", "data.num_train=480")  # 240 steps
    slow = ["plugins=[slow_steps]", "+callbacks.slow._target_=slow_steps.Slow"]
    # Slurm looks every 30 seconds, so the warning comes in the second minute.
    job = slurm.submit(["--time=3", "--signal=USR1@60"], [*words, *slow, "run_name=stopped"])
    output = slurm.finish(job)
    print(re.findall(r".*(?:stopped by|resumed).*", output))
    assert int(slurm.state(job)["Restarts"]) >= 1
    assert f"saved. Slurm job {job} is queued again" in output
    folder = tmp_path / "runs" / "shapes" / "stopped"
    assert f"resumed     {folder / 'last.ckpt'}" in output
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        assert [row["images_seen"] for row in csv.DictReader(file)] == ["480", "960"]

    slurm.finish(slurm.submit(["--nodes=1", "--ntasks-per-node=2"], [*words, "run_name=whole"]))
    stopped, whole = weights(folder), weights(folder.with_name("whole"))
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)
