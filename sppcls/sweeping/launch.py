"""``python train.py -m``: plan, check, run every job in a process of its own, say what became of each."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sppcls.composition import CONFIG_NAME, hydra_session, searchpath_words
from sppcls.config import Config, as_dict, hydra_word
from sppcls.errors import ConfigError, SppclsError
from sppcls.run_folder import LAST
from sppcls.sweeping.definition import Job, SweepPlan, job_configs, job_error, plan_sweep
from sppcls.sweeping.folder import (
    Outcome,
    claim_sweep_folder,
    job_state,
    read_sweep,
    summary_table,
    write_summary,
)
from sppcls.sweeping.job import TrainingProcess, remove_dead_attempt

# Launchers whose jobs see other devices than this process does.
_ELSEWHERE = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher")

# Extras that bring the launchers of Hydra's plugins.
_EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}


def run_sweep(words: Sequence[str], config_dir: str | None = None) -> Path:
    """Run every job of ``python train.py -m <words>`` that is not finished yet; returns the sweep's folder.

    A job that fails does not stop the others. The same call again skips finished jobs and goes on with begun ones.

    Raises:
        ConfigError: anything that makes a job impossible, before the first one starts.
        SppclsError: some jobs have failed; what they said stands in the summary.
    """
    plan = plan_sweep(words, config_dir)
    configs = job_configs(plan)
    launcher_config = _launcher_config(plan)
    _check_jobs(plan, configs, here=not str(launcher_config.hydra.launcher._target_).endswith(_ELSEWHERE))
    epochs = {name: config.trainer.max_epochs for name, config in configs.items()}
    with claim_sweep_folder(plan) as folder:
        states = {job.name: job_state(folder, job.name, epochs[job.name]) for job in plan.jobs}
        todo = [job for job in plan.jobs if states[job.name] != "finished"]
        counts = [f"{list(states.values()).count(s)} {s}" for s in ("finished", "begun", "new")]
        _print(f"Sweep {folder}: {len(plan.jobs)} runs: {', '.join(counts)}")
        try:
            with _terminated_is_interrupted():
                if todo:
                    _launch(plan, todo, folder, launcher_config)
        finally:
            rows = write_summary(folder, epochs)
            _print(f"\n{summary_table(rows)}")
        return _conclude(folder, rows)


def _conclude(folder: Path, rows: list[dict[str, str]]) -> Path:
    bad = [row for row in rows if row["status"] != "finished"]
    for row in bad:
        _print(f"{row['job']}: {row['status']}: {row['reason']}")
    _print(f"Table: {folder / 'summary.csv'}")
    if bad:
        raise SppclsError(
            f"{len(bad)} of {len(rows)} runs did not finish; the same command again goes on with them"
        )
    return folder


def _print(text: str) -> None:
    print(text, flush=True)


# --- before the first job


def _check_jobs(plan: SweepPlan, configs: dict[str, Config], here: bool) -> None:
    """What building a run would refuse, for every job; networks and folders that several jobs share are built once."""
    from sppcls.training import RunChecks

    checks = RunChecks(here)
    for job in sorted(plan.jobs, key=lambda job: str(as_dict(configs[job.name])["backbone"])):
        try:
            checks.check(configs[job.name])
        except SppclsError as error:
            raise job_error(job, error) from None


def _launcher_config(plan: SweepPlan) -> DictConfig:
    """Hydra's own part of the config: which launcher, and its settings."""
    words = [*plan.hydra_words, *searchpath_words(plan.config_dir)]
    with hydra_session() as session:
        try:
            return session.compose_config(
                CONFIG_NAME,
                [*words, hydra_word("runs_dir", plan.runs_dir)],
                RunMode.MULTIRUN,
                with_log_configuration=False,
            )
        except (HydraException, OmegaConfBaseException) as error:
            text = " ".join(str(error).split())
            for name, extra in _EXTRAS.items():
                if f"launcher/{name}'" in text or (
                    f"launcher={name}" in " ".join(words) and "Could not find" in text
                ):
                    raise ConfigError(f'hydra/launcher={name}: needs pip install "sppcls[{extra}]"') from None
            raise ConfigError(f"{' '.join(words)}: {text}") from None


# --- the jobs


@contextmanager
def _terminated_is_interrupted() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does: the running job saves, and the summary is written."""

    def stop(signum: int, frame: FrameType | None) -> None:
        sys.exit(128 + signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _launch(plan: SweepPlan, todo: list[Job], folder: Path, config: DictConfig) -> None:
    batch = [
        [
            *job.overrides,
            hydra_word("runs_dir", folder.parent),
            hydra_word("name", folder.name),
            hydra_word("run_name", job.name),
        ]
        for job in todo
    ]
    OmegaConf.update(config, "hydra.sweep.dir", str(folder / ".launcher"), force_add=True)
    with hydra_session() as session:
        context = HydraContext(config_loader=session.config_loader, callbacks=Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=run_job, config=config
        )
        for ended in launcher.launch(batch, initial_job_idx=0):
            _ = ended.return_value  # raises what the launcher itself failed with


def run_job(config: DictConfig) -> dict[str, Any]:
    """One job, wherever a launcher has put it: ``sppcls train`` in a process of its own. Returns its outcome."""
    hydra = HydraConfig.get()
    folder = Path(config.runs_dir) / config.name
    job = str(config.run_name)
    words = list(hydra.overrides.task)
    words += [word for word in hydra.overrides.hydra if word.startswith("hydra.searchpath=")]
    names = [known["name"] for known in (read_sweep(folder) or {}).get("jobs", [])]
    number = names.index(job) + 1 if job in names else 0
    alone = str(hydra.launcher._target_).endswith("BasicLauncher")
    prefix = "" if alone else f"{job}: "
    state = job_state(folder, job, config.trainer.max_epochs)
    if state == "finished":  # by another process, since the sweep was planned
        return {"job": job, "status": "finished"}
    if state == "begun":
        words.append(hydra_word("ckpt_path", folder / job / LAST))
    else:
        try:
            remove_dead_attempt(folder / job)
        except ConfigError as error:
            Outcome(job, "failed", str(error), 0.0, 0.0).save(folder)
            return {"job": job, "status": "failed"}
    how = "goes on" if state == "begun" else "starts"
    _print(f"\n{prefix}run {number} of {len(names)} {how}: {folder / job}")
    process = TrainingProcess(
        words, say=lambda line: _print(f"{prefix}{line}"), note=lambda line: _print(f"{prefix}{line}")
    )
    try:
        ended = process.wait()
    finally:
        if process.ended is not None:
            ended = process.ended
            Outcome(job, ended.status, ended.reason, ended.seconds, ended.peak_memory_mib).save(folder)
    assert ended is not None
    if ended.status != "finished":
        _print(f"{prefix}run {job} {ended.status}: {ended.reason}")
    return {"job": job, "status": ended.status}
