"""``sppcls doctor`` as a program, in installations that are broken in different ways."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sppcls.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


def doctor(*words: str, cwd: Path, broken: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, [ROOT, *([broken] if broken else [])]))
    return subprocess.run(
        [sys.executable, "-m", "sppcls.cli.main", "doctor", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "110"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def module(folder: Path, name: str, code: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)


def installed(folder: Path, name: str, version: str, *requires: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text(
        "\n".join([*lines, *(f"Requires-Dist: {line}" for line in requires)]) + "\n"
    )


def found(done: subprocess.CompletedProcess[str]) -> dict[str, list[dict[str, str]]]:
    assert done.stderr == ""
    by_topic: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        by_topic.setdefault(finding["topic"], []).append(finding)
    return by_topic


def test_packages_that_kill_steal_or_are_too_old_are_lines_of_the_report(tmp_path: Path) -> None:
    broken, marker = tmp_path / "broken", tmp_path / "malware-ran"
    module(broken, "torchvision", "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    module(broken, "pytorch_lightning", f"open({str(marker)!r}, 'w')\n")
    module(broken, "tensorboard", "import pkg_resources\n")
    installed(broken, "pytorch-lightning", "2.6.2")
    installed(broken, "numpy", "1.20.0")
    done = doctor("--json", "data=folder", cwd=tmp_path, broken=broken)
    topics = found(done)
    assert done.returncode == 1
    assert topics["torchvision"][0]["level"] == "problem"
    assert "SIGSEGV" in topics["torchvision"][0]["text"]
    assert any("malware (GHSA-w37p-236h-pfx3)" in finding["text"] for finding in topics["pytorch-lightning"])
    assert not marker.exists()
    assert topics["numpy"][0]["text"] == "1.20.0 is installed, >=2.0 is needed"
    assert topics["numpy"][0]["do"] == 'pip install "numpy>=2.0"'
    assert "setuptools 82" in topics["tensorboard"][0]["do"]
    assert topics["config"][0]["level"] == "note"  # the words were not looked at
    assert "imports" not in topics


def test_without_torch_it_starts_and_says_so_once(tmp_path: Path) -> None:
    module(
        tmp_path / "broken",
        "torch",
        "raise ImportError('libtorch_cuda.so: cannot open shared object file')\n",
    )
    done = doctor(cwd=tmp_path, broken=tmp_path / "broken")
    assert done.returncode == 1
    assert done.stderr == ""
    problems = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("problem")]
    assert [words[0] for words in problems] == ["torch"]
    assert "libtorch_cuda.so: cannot open shared object file" in " ".join(done.stdout.split())
    assert done.stdout.endswith("1 problem, no notes.\n")
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_a_good_installation_and_a_folder_of_photos_with_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, number in (("train", 12), ("val", 2)):
        for at, name in enumerate(("daisy", "rose\x1b[31m")):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(number if at == 0 else number // 2):
                colour = (100 * at, 5 * i, 200 if split == "val" else 0)
                Image.new("RGB", (40, 30), colour).save(tmp_path / "photos" / split / name / f"{i}.png")
    photos = tmp_path / "photos"
    (photos / "val/daisy/copy.png").write_bytes((photos / "train/daisy/3.png").read_bytes())
    (photos / "train/daisy/broken.png").write_text("no image")
    words = ["data=folder", f"data.root={photos}", "data.batch_size=8", "pyramid=none", "runs_dir=out"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert main(["doctor", *words]) == 1
    printed, errors = capsys.readouterr()
    text = " ".join(printed.split())
    assert errors == ""
    assert "\x1b" not in printed
    assert "2 classes, 19 training images (6 to 13 a class), 4 validation images" in text
    assert r"fewer than 10 training images: rose\x1b[31m (6)" in text
    assert "1 are not readable images: daisy/broken.png: text, not an image" in text
    assert "1 of 4 validation images are also training images: daisy/3.png = daisy/copy.png" in text
    assert "sizes: input_size=180x180: not the size that the head was built for" in text
    assert "ok imports" in text
    assert max(map(len, printed.splitlines())) <= 110
    assert len(printed.splitlines()) <= 40
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize(
    ("torch", "requires", "fits"),
    [
        ("2.15.0", "torch ==2.14.0", False),
        ("2.14.0+cpu", "torch (==2.14.0)", True),
        ("2.15.0", "torch >=2.14", True),
    ],
)
def test_torchvision_says_which_torch_it_was_built_for(
    torch: str, requires: str, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sppcls.cli.doctor.packages import check_packages

    installed(tmp_path, "torch", torch)
    installed(tmp_path, "torchvision", "0.29.7", "numpy", requires)
    monkeypatch.syspath_prepend(tmp_path)
    problems = [finding for finding in check_packages() if finding.topic == "torchvision"]
    assert [finding.level for finding in problems] == ([] if fits else ["problem"])
