"""Run folders written by hand, with errors and answers that can be counted on paper."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sppcls.evaluation import Predictions

CONFIG: dict[str, Any] = {
    "name": "photos",
    "run_name": None,
    "runs_dir": "runs",
    "seed": 0,
    "ckpt_path": None,
    "data": {"name": "folder", "root": "photos", "batch_size": 8, "workers": 0},
    "sizes": {"kind": "single", "sizes": [96], "period": 1, "step": 1, "val_sizes": None},
    "augment": {"shorter_side": None},
    "pyramid": {"levels": [3, 2, 1], "mode": "max", "bin_rule": "adaptive"},
    "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9},
    "trainer": {"max_epochs": 2, "threads": 1},
    "log": {"images": False},
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The config with some keys changed, such as ``{"pyramid.levels": None}``."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        place = config
        *groups, last = key.split(".")
        for group in groups:
            place = place[group]
        place[last] = value
    return config


def save_answers(
    path: Path,
    right: Sequence[bool] | np.ndarray,
    *,
    protocol: str = "center",
    size: str = "96",
    prefix: str = "val",
) -> None:
    """A file of predictions: the true classes are 0 to 7 in turn, the first answer where ``right``, else the second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(right)
    top = np.tile(np.arange(8), (count, 1))
    top[~np.asarray(right, dtype=bool)] = np.arange(8)[[1, 0, *range(2, 8)]]
    labels = np.arange(count) % 8
    Predictions(
        protocol=protocol,
        setting={"size": size, "average": "softmax"},
        classes=[f"class {i}" for i in range(8)],
        indices=np.arange(count),
        names=[f"{prefix}/{i:05}.jpg" for i in range(count)],
        labels=labels,
        top_class=(top + labels[:, None]) % 8,
        top_score=np.linspace(0.9, 0.1, 8, dtype=np.float32) * np.ones((count, 1), dtype=np.float32),
        scores=None,
        views=1,
        seconds=1.0,
    ).save(path)


def misses(count: int, *wrong: int) -> np.ndarray:
    """Right for all of ``count`` images but those numbered."""
    right = np.ones(count, dtype=bool)
    right[list(wrong)] = False
    return right


def write_run(
    folder: Path,
    *,
    seed: int = 0,
    error: float | None = None,
    right: np.ndarray | None = None,
    epochs: int | None = None,
    old: bool = False,
    device: str = "CPU, 1 thread",
    **changes: Any,
) -> Path:
    """Write a run folder.

    Args:
        folder: new.
        seed: its seed.
        error: top-1 error in per cent after the last epoch, or
        right: what it got right, which is kept in ``predictions/`` then.
        epochs: epochs done; all by default.
        old: name the main size as version 0.1 did, and leave out ``result.json``, as a run that was killed before it.
        device: of ``result.json``.
        changes: config keys, with ``__`` for the dot: ``pyramid__levels=None``.
    """
    config = changed({key.replace("__", "."): value for key, value in changes.items()})
    config["seed"] = seed
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if error is None:
        assert right is not None
        error = 100 * float((~right).mean())
    done = config["trainer"]["max_epochs"] if epochs is None else epochs
    sizes = config["sizes"]["sizes"]
    main = max(sizes)
    val = "val" if old else f"val_{main}"
    columns = [
        "epoch",
        "images_seen",
        "pixels_seen",
        "train_seconds",
        "size",
        f"{val}/top1_error",
        f"{val}/top5_error",
    ]
    columns += [f"val_{size}/top1_error" for size in sizes if size != main] + [
        "images_per_s",
        "epoch_seconds",
    ]
    rows, pixels = [], 0
    for epoch in range(done):
        size = sizes[epoch % len(sizes)]
        pixels += 100 * size * size
        value = error + 10 * (done - 1 - epoch)
        row: dict[str, Any] = {
            "epoch": epoch, "images_seen": 100 * (epoch + 1), "pixels_seen": pixels, "train_seconds": 5 * (epoch + 1),
            "size": size, f"{val}/top1_error": value, f"{val}/top5_error": value / 4, "images_per_s": 20, "epoch_seconds": 5,
        }  # fmt: skip
        row.update({f"val_{other}/top1_error": value + 1 for other in sizes if other != main})
        rows.append(row)
    lines = [",".join(columns), *(",".join(str(row[column]) for column in columns) for row in rows)]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    if done == config["trainer"]["max_epochs"] and not old:
        result = {
            "sppcls": "0.2.0", "device": device, "epochs": done, "parameters": 2_500_000, "main_size": str(main),
            "last": {f"val_{main}/top1_error": error}, "protocols": {},
        }  # fmt: skip
        (folder / "result.json").write_text(json.dumps(result))
    if right is not None:
        save_answers(folder / "predictions" / f"val_{main}.npz", right, size=str(main))
    return folder


def write_sweep(folder: Path, jobs: dict[str, dict[str, str]]) -> None:
    """A ``sweep.json`` with the values of each job."""
    folder.mkdir(parents=True, exist_ok=True)
    sweep = {
        "name": folder.name,
        "words": [],
        "varied": list(next(iter(jobs.values()))),
        "jobs": [{"name": name, "values": values, "overrides": []} for name, values in jobs.items()],
    }
    (folder / "sweep.json").write_text(json.dumps(sweep))
