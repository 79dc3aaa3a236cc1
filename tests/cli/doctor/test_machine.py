"""What is said of a machine, on the files and programs that it tells of itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from sppcls.cli.doctor.imports import TORCH, Probe, probe
from sppcls.cli.doctor.machine import cores, gpu, memory, nvidia_smi, processor, runs_folder, shared_memory

CARD = [["NVIDIA T4", "470.82", "15360", "14000"]]


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_container_has_the_cores_of_its_quota(tmp_path: Path) -> None:
    here = len(os.sched_getaffinity(0))
    assert cores(tmp_path) == here
    put(tmp_path / "v2/cpu.max", "50000 100000\n")
    put(tmp_path / "free/cpu.max", "max 100000\n")
    put(tmp_path / "v1/cpu/cpu.cfs_quota_us", "25000\n")
    put(tmp_path / "v1/cpu/cpu.cfs_period_us", "100000\n")
    put(tmp_path / "v1free/cpu/cpu.cfs_quota_us", "-1\n")
    put(tmp_path / "v1free/cpu/cpu.cfs_period_us", "100000\n")
    assert [cores(tmp_path / name) for name in ("v2", "free", "v1", "v1free")] == [0.5, here, 0.25, here]
    crowded = processor(Probe("", {"threads": 8}), tmp_path / "v2")
    assert (crowded.level, crowded.do) == ("note", "trainer.threads=1")


def test_memory_is_that_of_the_machine_or_of_the_container(tmp_path: Path) -> None:
    rows = "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n"
    table = put(tmp_path / "meminfo", rows)
    assert memory(table, tmp_path).text == "8.0 GiB of 16.0 GiB free"
    put(tmp_path / "memory.max", f"{4 * 2**30}\n")
    put(tmp_path / "memory.current", f"{3 * 2**30}\n")
    small = memory(table, tmp_path)
    assert (small.level, small.text) == ("note", "1.0 GiB of 4.0 GiB free (the container's limit)")
    assert memory(tmp_path / "none").text == "unknown here"


@pytest.mark.parametrize(
    ("found", "torch", "level", "text"),
    [
        (None, {"build": "CUDA 13.2", "why": "no driver"}, "ok", "on the CPU"),
        (
            CARD,
            {"build": "CUDA 13.2", "gpus": ["NVIDIA T4"]},
            "ok",
            "driver 470.82, 14 GiB free; torch for CUDA 13.2",
        ),
        (
            CARD,
            {"build": "CUDA 13.2", "why": "The NVIDIA driver on your system is too old"},
            "problem",
            "too old",
        ),
        (CARD, {"build": None}, "problem", "this torch is for CPUs only"),
        ("NVIDIA-SMI has failed", {"build": None}, "problem", "NVIDIA-SMI has failed"),
        ([], {"build": "CUDA 13.2"}, "ok", "none found"),
    ],
)
def test_driver_and_torch_agree_or_not(
    found: list[list[str]] | str | None,
    torch: dict[str, object],
    level: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    finding = gpu(found, Probe("", torch))
    assert (finding.level, text in finding.text) == (level, True)


def test_a_hidden_gpu_is_no_fault_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu(CARD, Probe("", {"build": "CUDA 13.2"})).level == "note"


@pytest.mark.parametrize(
    ("program", "rows"),
    [
        ("echo 'NVIDIA T4, 470.82, 15360, 14000'", CARD),
        ("echo 'NVIDIA-SMI has failed because'; exit 9", "NVIDIA-SMI has failed because"),
        ("exit 3", "nvidia-smi ends with 3"),
        (None, None),
    ],
)
def test_what_nvidia_smi_says(
    program: str | None, rows: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if program is not None:
        put(tmp_path / "nvidia-smi", f"#!/bin/sh\n{program}\n").chmod(0o755)
    assert nvidia_smi() == rows


def test_the_runs_folder(tmp_path: Path) -> None:
    assert runs_folder(tmp_path / "new" / "runs").level in ("ok", "note")
    assert list(tmp_path.iterdir()) == []
    file = put(tmp_path / "file", "")
    assert runs_folder(file / "runs").level == "problem"
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid():
        assert runs_folder(closed / "runs").level == "problem"
    assert runs_folder("/proc/runs").level == "problem"  # nobody writes there, root included


def test_shared_memory_too_small_for_the_loaders(tmp_path: Path) -> None:
    assert shared_memory(2**60, 0).level == "ok"
    assert shared_memory(2**20, 2, tmp_path).level == "ok"
    assert shared_memory(2**60, 2, tmp_path).level == "problem"
    assert shared_memory(1, 2, tmp_path / "none").level == "problem"


def test_a_probe_tells_what_a_program_printed_or_how_it_ended() -> None:
    ours = "print('sppcls doctor found: {\"a\": 1}')"
    assert probe(f"print('chatter'); {ours}") == Probe("", {"a": 1})
    for chatter in (
        "print('Hello from the pygame community')",
        "print('{\"b\": 2}')",
        "print('no line end', end='')",
        "import os; os.write(1, b'\\xff\\xfe\\n')",
    ):
        assert probe(f"{chatter}\n{ours}") == Probe("", {"a": 1})
        assert probe(f"{ours}\nimport sys; sys.stdout.flush()\n{chatter}") == Probe("", {"a": 1})
        assert probe(chatter) == Probe("")
    assert probe(TORCH).values["version"] == torch.__version__
    assert probe("import os; os.abort()").error == "the process was ended by SIGABRT"
    assert probe("import no_such_package").error == "ModuleNotFoundError: No module named 'no_such_package'"
    assert probe("import time; time.sleep(60)", seconds=0.5).error == "took more than 0.5 s"
