"""What happens when the packages are imported: in processes of their own, which a broken package may end as it likes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sppcls.cli.doctor.diagnosis import Diagnosis, ok, problem

_SECONDS = 180  # a minute on a busy machine with a slow disk is nothing rare

# Begins the line that a program prints for us: packages may print what they like when they are imported.
_MARK = "sppcls doctor found: "

TORCH = (
    """
import json, torch
found = {"version": torch.__version__, "build": torch.version.cuda and "CUDA " + torch.version.cuda,
         "threads": torch.get_num_threads(), "gpus": [], "why": ""}
if getattr(torch.version, "hip", None):
    found["build"] = "ROCm " + torch.version.hip
if found["build"]:
    try:
        torch.cuda.init()
        for number in range(torch.cuda.device_count()):
            (torch.ones(8, device=f"cuda:{number}") * 2).sum().item()
            found["gpus"].append(torch.cuda.get_device_properties(number).name)
    except Exception as error:
        found["why"] = str(error).strip().splitlines()[0]
"""
    + f"print({_MARK!r} + json.dumps(found))"
)

# Its compiled parts, once as sppcls uses them: these fail where torchvision was built for another torch.
TORCHVISION = """
import torch, torchvision
torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
picture = torchvision.io.encode_jpeg(torch.zeros(3, 8, 8, dtype=torch.uint8))
assert torchvision.io.decode_jpeg(picture).shape == (3, 8, 8)
"""

TENSORBOARD = """
from torch.utils.tensorboard import SummaryWriter
import tensorboard.default, tensorboard.program
"""

LIGHTNING = "import pytorch_lightning, torchmetrics"

OTHERS = "import hydra, omegaconf, matplotlib, numpy, scipy.stats, PIL.Image, yaml, tqdm"


@dataclass(frozen=True)
class Probe:
    """What a process found: the JSON that it printed behind our mark, if any, or why it failed."""

    error: str
    values: dict[str, Any] = field(default_factory=dict)


def probe(program: str, seconds: float = _SECONDS) -> Probe:
    """Run a Python program in a process of its own."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", program],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(f"took more than {seconds:g} s")
    except OSError as error:
        return Probe(f"no process could be started ({error.strerror})")
    if done.returncode < 0:
        return Probe(f"the process was ended by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return Probe(lines[-1] if lines else f"exit status {done.returncode}")
    found = re.search(
        f"{_MARK}(.*)", done.stdout
    )  # not always a line's start, as others may leave out the end
    return Probe("", json.loads(found[1]) if found else {})


def check_imports(lightning: bool = True) -> tuple[list[Diagnosis], Probe]:
    """Findings about every package's import, and what torch said.

    Args:
        lightning: whether Lightning may be imported at all.
    """
    programs = {
        "torch": TORCH,
        "torchvision": TORCHVISION,
        "tensorboard": TENSORBOARD,
        "other packages": OTHERS,
    }
    if lightning:
        programs["pytorch-lightning"] = LIGHTNING
    # One process for all of them takes a third of the time, as most import torch. One for each, if that fails, tells
    # which is at fault.
    together = probe("\n".join(programs.values()))
    if not together.error:
        return list(_findings(dict.fromkeys(programs, together))), together
    with ThreadPoolExecutor(len(programs)) as pool:
        probes = dict(zip(programs, pool.map(probe, programs.values()), strict=True))
    return list(_findings(probes)), probes["torch"]


def _findings(probes: dict[str, Probe]) -> Iterator[Diagnosis]:
    failed = {name: found.error for name, found in probes.items() if found.error}
    for name, error in failed.items():
        if name not in ("torch", "other packages") and "torch" in failed:
            continue  # for the same reason
        yield problem(name, f"cannot be used: {error}", _advice(name, error))
    if not failed:
        yield ok("imports", "torch, torchvision's compiled parts, Lightning, TensorBoard and the rest work")


def _advice(name: str, error: str) -> str:
    if "pkg_resources" in error:
        return 'setuptools 82 and later lack pkg_resources: pip install --upgrade "tensorboard>=2.21"'
    if name == "torchvision":
        return (
            "torch and torchvision must come from the same place (both for CPU or both for the same CUDA): "
            "pip install --force-reinstall torch torchvision"
        )
    package = "the package it names" if name == "other packages" else name
    return f"pip install --force-reinstall {package}"
