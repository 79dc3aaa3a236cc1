"""Runs on images with several labels from shards and from a Hugging Face data set: what a folder of them gives."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning.callbacks import Callback

import sppcls
from sppcls.cli.main import main
from sppcls.errors import Interrupted
from sppcls.runs.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same images in a folder, in shards and as a Hugging Face data set, in the same order."""
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("places")
    found = {"folder": root / "photos", "shards": root / "shards", "huggingface": root / "set"}
    found["folder"].mkdir()
    draw = np.random.default_rng(0)
    lines, columns = ["path,tags,split"], {"train": [], "validation": []}
    for number in range(60):
        pixels = draw.integers(0, 256, (40, 40, 3), np.uint8)
        labels = [name for name in ("blue", "green", "red") if draw.random() < 0.45]
        path = found["folder"] / f"{number:02}.png"
        Image.fromarray(pixels).save(path)
        role = "train" if number < 40 else "validation"
        lines.append(f"{path.name},{'|'.join(labels)},{role}")
        columns[role].append({"image": {"bytes": path.read_bytes(), "path": None}, "label": labels})
    (found["folder"] / "tags.csv").write_text("\n".join(lines) + "\n")
    splits = {
        role: datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
        for role, rows in columns.items()
    }
    datasets.DatasetDict(splits).save_to_disk(str(found["huggingface"]))
    assert main(["shards", str(found["folder"]), str(found["shards"]), "--workers", "0"]) == 0
    return found


def end_of(run: dict[str, Any]) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = read_checkpoint(Path(run["folder"]) / "last.ckpt")["state_dict"]
    return state


class Stop(Callback):
    """Stops a run as a scheduler does, within its second epoch."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_weights_are_those_of_the_folder_also_when_it_was_stopped(
    tiny, places: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def words(kind: str) -> list[str]:
        return tiny(f"data={kind}", f"data.root={places[kind]}", "data.workers=0", f"run_name={kind}")

    runs = {"folder": sppcls.train(sppcls.compose(words("folder")))}
    for kind in ("shards", "huggingface"):
        with pytest.raises(Interrupted):
            sppcls.train(sppcls.compose(words(kind)), callbacks=[Stop()])
        runs[kind] = sppcls.train(sppcls.compose([*words(kind), "ckpt_path=auto"]))
        for name, value in end_of(runs["folder"]).items():
            assert torch.equal(value, end_of(runs[kind])[name]), name
        figures = [{**runs[one]["last"], "seconds": 0} for one in ("folder", kind)]
        assert figures[0] == figures[1]
        assert "val_96/map_error" in figures[1]
    checkpoint = str(runs["shards"]["last_checkpoint"])
    out = tmp_path / "out"
    assert main(["evaluate", checkpoint, "--protocol=center", f"--out={out}", "--workers=0"]) == 0
    with open(out / "errors.csv", newline="") as file:
        (row, *_) = csv.DictReader(file)
    assert float(row["map_error"]) == pytest.approx(runs["shards"]["last"]["val_96/map_error"], abs=1e-3)
    capsys.readouterr()
    assert (
        main(["predict", checkpoint, str(places["folder"] / "50.png"), "--workers=0", "--threshold=0"]) == 0
    )
    said = capsys.readouterr().out
    assert all(name in said for name in ("blue", "green", "red"))
    compared = sppcls.compare(Path(runs["shards"]["folder"]).parent)
    assert compared.name_of(compared.main, 1) == "val_96/map_error"
