"""Every notebook runs in an empty folder, and what is kept in it is what it says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

from run import execute  # noqa: E402  (notebooks/ is no package)

# What the text states, as patterns that the printed output must have, in this order.
PROMISED = {
    "pyramid_and_bins": [
        r"224 x 224 +-> +64 channels of 13 x 13",
        r"180 x 180 +-> +64 channels of 10 x 10",
        r"256 x 256 +-> +64 channels of 15 x 15",
        r"together: 50",
        r"the layer agrees: True",
        r"15 x 22 map +-> +vector of 3,200",
        r"0 or 1: True",
        r"13: sec\. 2\.3 +100% +100%",
        r"10: appendix +100% +100%",
        r"10: sec\. 2\.3 +49% +100%",
        r"15: sec\. 2\.3 +75% +100%",
        r"9 x 9 windows instead of 6 x 6",
        r"in the pyramid: 0",
        r"224 .*'spp': \(3200,\)",
        r"180 .*'spp': \(3200,\)",
    ],
    "detection": [
        r"classes: 20 +hidden layers: \['fc6', 'fc7'\]",
        r"450 x 283 pixels: triangle, cross",
        r"\d+ windows; best overlap with each object: \[0\.\d+ 0\.\d+\]",
        r"first 1,000 windows: 3[0-3] of 33 objects",
        r"map of 19 x 31 cells; the window has \d+ x \d+ of them",
        r"vectors of 448; as the crop's: True",
        r"fine-tuning: 400 steps",
        r"SVMs on fc7: \d+ passes",
        r"triangle: \d+ windows above its threshold, \d+ after suppression",
        r"mAP [\d.]+ %, 95 % interval [\d.]+ to [\d.]+",
        r"without box regression: mAP [\d.]+ %",
    ],
    "single_vs_multi": [
        r"6 runs: 0 finished, 0 begun, 6 new",
        *(
            rf"{kind}-seed{seed} +finished +val_96/top1_error "
            for seed in range(3)
            for kind in ("single", "multi")
        ),
        r"single +[\d.]+ ± [\d.]+ %",
        r"multi +[\d.]+ ± [\d.]+ %",
        r"sizes, val_96/top1_error: no difference shown. multi is ",
        # 300 images, 6 epochs at 96 pixels, or 3 at 96 and 3 at 80.
        r"single +16\.6 million training pixels",
        r"multi +14\.1 million training pixels",
    ],
    "any_size_inference": [
        r"trained at \[\[96, 96\], \[80, 80\]\]",
        r"very wide +440 x 110 ",
        r"map 27 x +6 +-> +vector of 448",
        r"96 x 96: logits \(1, 20\)",
        r"128 x 128: ValueError: .*this network takes 96x96 only, as it has no pyramid",
        r"128 x 128: RuntimeError: .*cannot be multiplied",
        r"128 x 128: logits \(1, 20\)",
        r"110 x 220: logits \(1, 20\)",
    ],
}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def printed(notebook: Any) -> str:
    """What the code cells printed."""
    outputs = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs]
    return "\n".join(o.text for o in outputs if o.output_type == "stream")


def check_lines(name: str, text: str) -> None:
    """The promised lines in order."""
    place = 0
    for pattern in PROMISED[name]:
        found = re.compile(pattern).search(text, place)
        assert found, f"{name}: {pattern!r} is not printed after character {place}"
        place = found.end()


def check_errors(name: str, text: str) -> None:
    """The errors that the text speaks of."""
    if name == "any_size_inference":
        found_errors = re.findall(r"(\d+) pixels: top-1 error +([\d.]+) %", text)
        errors = {int(size): float(error) for size, error in found_errors}
        assert max(errors[80], errors[96]) < 20  # chance: 95
        assert min(errors[48], errors[160]) > max(errors[80], errors[96]) + 10


def test_every_notebook_is_checked() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(PROMISED)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_outputs_are_complete_and_say_nothing_of_the_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    for word in ("/home", "/tmp", "/root", "/usr", "/opt", "site-packages", "execution_start", "iopub"):
        assert word not in text, word
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        kinds = {output.output_type for output in cell.outputs}
        assert "error" not in kinds
        assert all(output.get("name") != "stderr" for output in cell.outputs), cell.outputs
        # The first cell imports, and draws and prints nothing.
        assert cell.outputs or cell is code[0], cell.source
    check_lines(path.stem, printed(notebook))
    check_errors(path.stem, printed(notebook))


# Notebooks that run in every suite: words of them that take minutes, and shorter ones.
SHORTER = {
    "pyramid_and_bins": {},
    "any_size_inference": {'("train", 1000)': '("train", 200)', "max_epochs=12": "max_epochs=1"},
    "detection": {
        "data.num_train=1000": "data.num_train=200",
        "data.num_val=200": "data.num_val=20",
        "max_epochs=8": "max_epochs=1",
        'scenes("train", 40)': 'scenes("train", 12)',
        "steps=400": "steps=40",
    },
}


# What a kernel does between two notebooks: loading torch anew takes longer than most of them.
_AGAIN = "import os, matplotlib.pyplot\nmatplotlib.pyplot.rcdefaults()\nos.chdir({folder!r})\n%reset -f"


@pytest.fixture(scope="module")
def after_little_training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The short notebooks with the outputs of a run in one kernel, one after the other, each from no names."""
    folder, cells, numbers = tmp_path_factory.mktemp("short"), [], {}
    for name, words in SHORTER.items():
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        for long, short in words.items():
            long, short = (json.dumps(word)[1:-1] for word in (long, short))
            assert text.count(long) == 1
            text = text.replace(long, short)
        (folder / name).mkdir()
        cells.append(nbformat.v4.new_code_cell(_AGAIN.format(folder=str(folder / name)), id=name))
        own = nbformat.reads(text, as_version=4).cells
        for cell in own:
            cell.id = f"{name}-{cell.id}"
        numbers[name] = slice(len(cells), len(cells) + len(own))
        cells += own
    notebook = nbformat.v4.new_notebook(cells=cells)
    path = folder / "all.ipynb"
    nbformat.write(notebook, path)
    before = path.read_bytes()
    found = execute(path).cells
    assert path.read_bytes() == before
    return {name: nbformat.v4.new_notebook(cells=found[part]) for name, part in numbers.items()}


@pytest.mark.parametrize("name", SHORTER)
def test_every_cell_runs_after_little_training(name: str, after_little_training: dict[str, Any]) -> None:
    text = printed(after_little_training[name])
    check_lines(name, text.replace("40 steps", "400 steps"))
    if not SHORTER[name]:  # as it stands
        assert not re.search(r"warning", text, re.IGNORECASE)
        check_errors(name, text)


@pytest.mark.long  # without: the test above
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path) -> None:
    before = path.read_bytes()
    text = printed(execute(path))
    assert path.read_bytes() == before
    assert not re.search(r"warning", text, re.IGNORECASE)
    check_lines(path.stem, text)
    check_errors(path.stem, text)
