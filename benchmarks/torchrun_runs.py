"""How often tiny runs under torchrun end badly: exit statuses, and what the failed ones said.

    python benchmarks/torchrun_runs.py [--runs 200] [--minutes 40] [--forked] [--keep FOLDER]

Each run is two gloo processes of ``train.py trainer=ddp`` on one CPU thread each: 24 generated images, one epoch of three
steps. The processes are started anew for every run; torchrun itself is loaded once and called again, which saves a third of the time.
``--forked``: the two processes are forks of the loaded program, with torchrun's environment but without torchrun, and end as
any program does: a tenth of the time, the same training and the same end. ``--minutes``: CPU minutes after which no further run
is begun (without ``--forked``). ``--keep``: where the output of failed runs is left.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import resource
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path

from common import machine
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ROOT / "train.py"
sys.path.insert(0, str(ROOT / "tests"))
from forked import Loaded  # type: ignore[import-not-found]  # noqa: E402

WORDS = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.max_epochs=1",
         "data.num_train=24", "data.num_val=20", "data.batch_size=4", "data.workers=0", "sizes.sizes=[64,48]", "pyramid=l321",
         "backbone.width=0.0625", "head.hidden=[8]", "log.images=false", "ckpt_path=null"]  # fmt: skip


def run_once(place: Path) -> list[str]:
    """One run; how each failed process ended, such as ``process 1: SIGABRT``."""
    arguments = [
        "--standalone",
        "--nproc-per-node",
        "2",
        "--log-dir",
        str(place / "output"),
        "--redirects",
        "3",
    ]
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            torchrun.main([*arguments, str(TRAIN), *WORDS, f"runs_dir={place / 'runs'}", "run_name=run"])
    except ChildFailedError as error:
        return [f"process {rank}: {ending(failure.exitcode)}" for rank, failure in error.failures.items()]
    return [] if (place / "runs" / "shapes" / "run" / "result.json").exists() else ["no result.json"]


def fork_once(loaded: Loaded, place: Path) -> list[str]:
    """As :func:`run_once`, without torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    started = [
        loaded.start(
            ["train.py", *WORDS, f"runs_dir={place / 'runs'}", "run_name=run"],
            env={
                **os.environ,
                **where,
                "RANK": rank,
                "LOCAL_RANK": rank,
                "LOCAL_WORLD_SIZE": "2",
                "GROUP_RANK": "0",
            },
        )
        for rank in ("0", "1")
    ]
    (place / "output").mkdir()
    failed = []
    for rank, process in enumerate(started):
        text = process.communicate(600)[0]
        process.close()
        if process.returncode:
            failed.append(f"process {rank}: {ending(process.returncode)}")
            (place / "output" / str(rank)).write_text(text)
    return failed


def ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def cpu_minutes() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) / 60


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--forked", action="store_true")
    parser.add_argument("--keep", type=Path, default=Path("torchrun_failures"))
    args = parser.parse_args()
    # A line on each thread where a signal ends the process, C++ frames with torch's errors.
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", "TORCH_SHOW_CPP_STACKTRACES": "1"}
    endings: collections.Counter[str] = collections.Counter()
    seconds: list[float] = []
    with Loaded() if args.forked else contextlib.nullcontext() as loaded:
        for number in range(args.runs):
            if cpu_minutes() >= args.minutes:
                break
            place = Path(tempfile.mkdtemp())
            started = time.perf_counter()
            failed = fork_once(loaded, place) if loaded else run_once(place)
            seconds.append(time.perf_counter() - started)
            endings["; ".join(failed) or "status 0"] += 1
            if failed:
                print(f"run {number}: {'; '.join(failed)}", flush=True)
                shutil.copytree(place / "output", args.keep / str(number), dirs_exist_ok=True)
            shutil.rmtree(place)
            if number % 10 == 9:
                print(f"{number + 1} runs, {cpu_minutes():.1f} CPU minutes: {dict(endings)}", flush=True)
    print(f"\n{machine()}; Python {sys.version.split()[0]}")
    print(
        f"{len(seconds)} runs of two processes, {cpu_minutes():.1f} CPU minutes, median {statistics.median(seconds):.1f} s a run"
    )
    for how, count in endings.most_common():
        print(f"{count:5}  {how}")


if __name__ == "__main__":
    main()
