"""The machine: cores, memory, GPU, limits of a process, and the folder that runs are written to."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sppcls._util.processor import has_bf16_arithmetic
from sppcls.cli.doctor.diagnosis import Diagnosis, note, ok, problem
from sppcls.cli.doctor.imports import Probe

_GIB = 2**30
_CGROUP = Path("/sys/fs/cgroup")

# Small enough that something is likely to go wrong, whatever is trained.
_MEMORY, _DISK, _FILES = 2 * _GIB, _GIB, 1024


def check_machine(torch: Probe) -> Iterator[Diagnosis]:
    """Findings about processor, memory, GPU and open files; ``torch`` is what torch said about itself."""
    yield processor(torch)
    if has_bf16_arithmetic():
        yield ok("bfloat16", "the processor has it: trainer.precision=bf16-mixed is faster than 32-true")
    yield memory()
    yield gpu(nvidia_smi(), torch)
    # A training raises the soft limit to what the hard one allows.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _FILES:
        yield note(
            "open files",
            f"a process may open {hard}; with many loader processes it ends with 'Too many open files'",
            f"ulimit -n {_FILES} before training",
        )


def cores(cgroup: Path = _CGROUP) -> float:
    """Cores' worth of time that this process may use: those it may run on, or a container's smaller quota."""
    share = float(len(os.sched_getaffinity(0)))
    older = [_read(cgroup / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    for words in (_read(cgroup / "cpu.max").split(), older):
        if len(words) == 2 and all(word.isdigit() for word in words):  # no limit is "max" or "-1"
            share = min(share, int(words[0]) / int(words[1]))
    return share


def processor(torch: Probe, cgroup: Path = _CGROUP) -> Diagnosis:
    """Cores against the threads that torch would use."""
    share = cores(cgroup)
    text = f"{share:g} cores" if share != 1 else "1 core"
    threads = torch.values.get("threads")
    if threads is None:
        return ok("processor", text)
    text += f", torch uses {threads} threads" if threads != 1 else ", torch uses 1 thread"
    if threads > share:
        return note(
            "processor",
            f"{text}: more than there are cores slow it down",
            f"trainer.threads={max(1, int(share))}",
        )
    setting = os.environ.get("OMP_NUM_THREADS")
    if setting and threads < share / 2:
        return note(
            "processor",
            f"{text}, because OMP_NUM_THREADS={setting}",
            f"trainer.threads={int(share)} for a run alone on it",
        )
    return ok("processor", text)


def memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> Diagnosis:
    """Memory that is free, in the machine or in the container's limit."""
    rows = (line.split() for line in _read(meminfo).splitlines())
    sizes = {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) > 1 and row[1].isdigit()}
    if "MemAvailable" not in sizes:
        return ok("memory", "unknown here")
    free, total, where = sizes["MemAvailable"], sizes.get("MemTotal", 0), ""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        allowed, taken = _read(cgroup / limit), _read(cgroup / used)
        if allowed.isdigit() and taken.isdigit() and int(allowed) < total:
            free, total = min(free, int(allowed) - int(taken)), int(allowed)
            where = " (the container's limit)"
    text = f"{_gib(free)} of {_gib(total)} free{where}"
    if free < _MEMORY:
        return note(
            "memory",
            text,
            "if the run is 'Killed': smaller data.batch_size and data.val_batch_size, fewer data.workers",
        )
    return ok("memory", text)


def nvidia_smi() -> list[list[str]] | str | None:
    """Rows of (name, driver, MiB, MiB free) of the NVIDIA GPUs; a text if the driver fails; None without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = "--query-gpu=name,driver_version,memory.total,memory.free"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer ({type(error).__name__})"
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        return lines[0] if lines else f"nvidia-smi ends with {done.returncode}"
    return [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def gpu(found: list[list[str]] | str | None, torch: Probe) -> Diagnosis:
    """What the driver and torch say about GPUs, and whether they agree.

    Args:
        found: from :func:`nvidia_smi`.
        torch: what torch said about itself.
    """
    build, names = torch.values.get("build"), torch.values.get("gpus", [])
    if names:
        cards = found if isinstance(found, list) else []
        room = (
            f", driver {cards[0][1]}, {int(cards[0][3]) / 1024:.0f} GiB free"
            if cards and cards[0][3].isdigit()
            else ""
        )
        return ok(
            "gpu", f"{len(names)}: {', '.join(dict.fromkeys(names))}{room}; torch for {build} works on it"
        )
    if isinstance(found, str):
        return problem(
            "gpu", f"the driver fails: {found}", "restart the machine or install the NVIDIA driver again"
        )
    if not found:
        return ok("gpu", "none found; training runs on the CPU")
    card = f"{found[0][0]}, driver {found[0][1]}" if len(found[0]) > 1 else found[0][0]
    if torch.error:
        return note("gpu", f"{card}; not tried, as torch cannot be imported")
    if not build:
        return problem(
            "gpu",
            f"{card}, but this torch is for CPUs only",
            "install torch and torchvision for CUDA: pytorch.org",
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return note("gpu", f"{card}, hidden by CUDA_VISIBLE_DEVICES={hidden}", "unset CUDA_VISIBLE_DEVICES")
    return problem(
        "gpu",
        f"{card}, but torch for {build} cannot use it: {torch.values.get('why') or 'it sees no GPU'}",
        "a newer driver, or a torch for an older CUDA: pytorch.org",
    )


def runs_folder(place: str | Path) -> Diagnosis:
    """Whether runs can be written below ``place``, which need not exist yet."""
    folder = Path(os.path.abspath(place))
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return problem("runs folder", f"{place}: {folder} is not a folder", "runs_dir=FOLDER")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        return problem(
            "runs folder",
            f"{place}: {folder} cannot be written ({error.strerror})",
            "runs_dir=FOLDER that can",
        )
    free = shutil.disk_usage(folder).free
    text = f"{place}: can be written, {_gib(free)} free"
    if free < _DISK:
        return note(
            "runs folder", text, "make room, or runs_dir=FOLDER on another disk; a full disk stops a run"
        )
    return ok("runs folder", text)


def shared_memory(needed: int, workers: int, place: Path = Path("/dev/shm")) -> Diagnosis:
    """Whether the batches that loader processes hold ready fit.

    Args:
        needed: bytes that they hold at most.
        workers: number of these processes.
        place: file system of the shared memory.
    """
    if not workers:
        return ok("shared memory", "not needed: data.workers=0")
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        return problem(
            "shared memory",
            f"{place}: {error.strerror}; loader processes need it",
            "data.workers=0, or mount it",
        )
    text = f"{_gib(free)} free in {place}; the loader processes hold up to {_gib(needed)} of batches there"
    if free < needed:
        return problem(
            "shared memory",
            f"{text} and would die ('Bus error')",
            "docker run --shm-size=2g (or --ipc=host), a smaller data.batch_size, or data.workers=0",
        )
    return ok("shared memory", text)


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB else f"{size / 2**20:.0f} MiB"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
