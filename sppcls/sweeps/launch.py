"""``python train.py -m``: plan, check, run every job in a process of its own, say what became of each."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sppcls._util.console import visible
from sppcls._util.reason import reason_of
from sppcls._util.signals import WARNING
from sppcls._util.tensorboard import TIME_SERIES
from sppcls.config.compose import CONFIG_NAME, hydra_session, searchpath_words
from sppcls.config.grammar import hydra_word
from sppcls.config.schema import Config, as_dict
from sppcls.errors import ConfigError, SppclsError
from sppcls.sweeps.folder import (
    claim_sweep_folder,
    job_state,
    read_sweep,
    save_outcome,
    summary_table,
    write_summary,
)
from sppcls.sweeps.job import Ended, TrainingProcess, remove_dead_attempt
from sppcls.sweeps.plan import Job, SweepPlan, job_configs, job_error, plan_sweep
from sppcls.sweeps.progress import Progress
from sppcls.sweeps.stopping import (
    LAUNCHER,
    STOP,
    Worker,
    stop_asks_jobs,
    stop_interrupts,
    wait_until_free,
)

# Launchers whose jobs see other devices than this process does.
_ELSEWHERE = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher")

# Extras that bring the launchers of Hydra's plugins.
_EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}


def run_sweep(words: Sequence[str], config_dir: str | None = None) -> Path:
    """Run every job of ``python train.py -m <words>`` that is not finished yet; returns the sweep's folder.

    A job that fails does not stop the others. The same call again skips finished jobs and resumes begun ones.

    Raises:
        ConfigError: anything that makes a job impossible, before the first one starts.
        SppclsError: some jobs have failed; what they said stands in the summary.
    """
    from sppcls.engine.slurm import queue_again, slurm_job

    plan = plan_sweep(words, config_dir)
    _print(f"Checking {len(plan.jobs)} run{'s' if len(plan.jobs) > 1 else ''} ...")
    configs = job_configs(plan)
    launcher_config = _launcher_config(plan)
    _check_jobs(plan, configs, on_this_machine=_class_of(launcher_config.hydra.launcher) not in _ELSEWHERE)
    epochs = {name: config.trainer.max_epochs for name, config in configs.items()}
    with claim_sweep_folder(plan) as folder:
        states = {job.name: job_state(folder, job.name, epochs[job.name]) for job in plan.jobs}
        todo = [job for job in plan.jobs if states[job.name] != "finished"]
        counts = [f"{list(states.values()).count(s)} {s}" for s in ("finished", "begun", "new")]
        if folder.name != plan.name:
            other = (read_sweep(folder.with_name(plan.name)) or {}).get("words")
            what = f"another sweep: {' '.join(other)}" if other else "something else"
            _print(f"{folder.with_name(plan.name)} is {what}")
        _print(f"Sweep {folder}: {len(plan.jobs)} runs: {', '.join(counts)}")
        try:
            try:
                if todo:
                    with _stopping(folder, launcher_config):
                        _launch(plan, todo, folder, launcher_config)
            finally:  # however the jobs end, what became of them is written and reported
                _remove_empty(folder / LAUNCHER)
                rows = write_summary(folder, epochs)
                _print(f"\n{summary_table(rows)}")
        except (KeyboardInterrupt, SystemExit) as stopped:
            if getattr(stopped, "code", None) == 128 + WARNING:
                reason = queue_again()
                _print(
                    f"Slurm job {slurm_job()} is {f'not queued again: {reason}' if reason else 'queued again'}"
                )
            else:
                _print("Stopped; the same command again continues.")
            raise
        _compare(folder)
        return _conclude(folder, rows)


def _compare(folder: Path) -> None:
    """What the finished runs show so far; the report goes to the sweep's folder."""
    from sppcls.comparison import compare
    from sppcls.comparison.board.logdir import write_beside_runs
    from sppcls.comparison.report.content import Content
    from sppcls.comparison.report.write import check_out, write_report

    try:
        comparison = compare([folder])
        page = write_report(comparison, check_out(folder / "comparison"))
        write_beside_runs(comparison, page.parent)
    except SppclsError as error:
        _print(f"Not compared: {error}")
        return
    _print("")
    for sentence in Content.of(comparison).sentences:
        _print(sentence)
    _print(f"Report: {page}")
    shown = shlex.quote(str(folder))
    _print(f"In TensorBoard: sppcls board {shown}")
    _print(f"or tensorboard --logdir {shown}, and {TIME_SERIES}")


def _conclude(folder: Path, rows: list[dict[str, str]]) -> Path:
    bad = [row for row in rows if row["status"] != "finished"]
    for row in bad:
        _print(f"{row['job']}: {row['status']}: {row['reason']}")
    _print(f"Table: {folder / 'summary.csv'}")
    if bad:
        raise SppclsError(
            f"{len(bad)} of {len(rows)} runs did not finish; the same command again resumes them"
        )
    return folder


def _print(text: str) -> None:
    print(visible(text), flush=True)


# --- before the first job


def _check_jobs(plan: SweepPlan, configs: dict[str, Config], on_this_machine: bool) -> None:
    """What building a run would refuse, for every job; networks and folders that several jobs share are built once."""
    from sppcls.engine.preflight import RunChecks

    checks = RunChecks(on_this_machine)
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
            config = session.compose_config(
                CONFIG_NAME,
                [*words, hydra_word("runs_dir", plan.runs_dir)],
                RunMode.MULTIRUN,
                with_log_configuration=False,
            )
        except (HydraException, OmegaConfBaseException) as error:
            text = reason_of(error)
            for name, extra in _EXTRAS.items():
                if f"launcher/{name}'" in text or (
                    f"launcher={name}" in " ".join(words) and "Could not find" in text
                ):
                    raise ConfigError(f'hydra/launcher={name}: needs pip install "sppcls[{extra}]"') from None
            raise ConfigError(f"{' '.join(words)}: {text}") from None
    for key in ("tasks_per_node", "nodes"):
        if OmegaConf.select(config.hydra.launcher, key, default=1) != 1:
            raise ConfigError(
                f"hydra.launcher.{key}={config.hydra.launcher[key]}: a run is one task, which starts its other "
                "processes itself: hydra.launcher.gpus_per_node=4 trainer=ddp"
            )
    return config


# --- the jobs


def _class_of(launcher: Any) -> str:
    return str(launcher._target_).rpartition(".")[2]


def _stopping(sweep: Path, config: DictConfig) -> AbstractContextManager[None]:
    """What Ctrl-C and SIGTERM do. Jobs of a cluster's queue are the queue's: it has commands to stop them."""
    (sweep / LAUNCHER / STOP).unlink(missing_ok=True)
    here = _class_of(config.hydra.launcher) in ("BasicLauncher", "SlurmLauncher")
    return stop_interrupts() if here else stop_asks_jobs(sweep, _print)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


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
    in_turn = _class_of(config.hydra.launcher) == "BasicLauncher"
    job = partial(run_job, progress=Progress(folder, [job.name for job in todo])) if in_turn else run_job
    OmegaConf.update(config, "hydra.sweep.dir", str((folder / LAUNCHER).resolve()), force_add=True)
    with hydra_session() as session:
        context = HydraContext(config_loader=session.config_loader, callbacks=Callbacks(config))
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=job, config=config
        )
        try:
            for ended in launcher.launch(batch, initial_job_idx=0):
                _ = ended.return_value  # raises what the launcher itself failed with
        except Exception as error:
            if in_turn:
                raise
            words = " ".join(plan.hydra_words)
            raise SppclsError(f"{words}: {type(error).__name__}: {reason_of(error)[-500:]}") from error


def run_job(config: DictConfig, progress: Progress | None = None) -> dict[str, Any]:
    """One job, wherever a launcher has put it: ``sppcls train`` in a process of its own. Returns its outcome.

    ``progress`` is that of jobs which run here, one after the other.
    """
    sweep, job = Path(config.runs_dir) / config.name, str(config.run_name)
    if progress is not None:
        print()
        return _run(config, sweep, job, _print, TrainingProcess.wait, progress)

    def say(line: str) -> None:
        _print(f"{job}: {line}")

    worker = Worker(sweep, say)
    with worker.signals():
        if reason := worker.stopping():
            say(f"not started: {reason}")
            return {"job": job, "status": "waiting"}
        outcome = _run(config, sweep, job, say, worker.wait_for)
    worker.leave_with_parent()
    return outcome


def _run(
    config: DictConfig,
    sweep: Path,
    job: str,
    say: Callable[[str], None],
    wait: Callable[[TrainingProcess], object],
    progress: Progress | None = None,
) -> dict[str, Any]:
    overrides = HydraConfig.get().overrides
    words = list(overrides.task)
    words += [word for word in overrides.hydra if word.startswith("hydra.searchpath=")]
    names = [known["name"] for known in (read_sweep(sweep) or {}).get("jobs", [])]
    number = names.index(job) + 1 if job in names else 0
    if not wait_until_free(sweep / job):
        say(f"run {job} is left alone: another process trains it")
        return {"job": job, "status": "running"}
    state = job_state(sweep, job, config.trainer.max_epochs)
    if state == "finished":  # by another process, since the sweep was planned
        return {"job": job, "status": "finished"}
    if state == "begun":
        words.append(hydra_word("ckpt_path", sweep / job))
    elif config.detection.checkpoint is None:  # a detector resumes by itself
        try:
            remove_dead_attempt(sweep / job)
        except ConfigError as error:
            save_outcome(sweep, job, Ended("failed", str(error), 0.0, 0.0))
            return {"job": job, "status": "failed"}
    left = progress.time_left(job) if progress else ""
    say(f"[{number}/{len(names)}] {job}{' resumed' if state == 'begun' else ''}{left}")
    process = TrainingProcess(words, say=progress.shortened(say) if progress else say, note=say)
    try:
        wait(process)
    finally:
        ended = process.ended
        if ended is not None:
            save_outcome(sweep, job, ended)
            write_summary(sweep, {job: config.trainer.max_epochs})
    assert ended is not None
    if ended.status != "finished":
        say(f"run {job} {ended.status}: {ended.reason}")
    return {"job": job, "status": ended.status}
