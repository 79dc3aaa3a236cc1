"""Two gloo processes, started by the real program."""

from __future__ import annotations

import csv
import re
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Program
from tiny_runs import wait_until

from sppcls import compose, load_classifier, train
from sppcls.config.build import load_sources, make_datamodule, val_sizes
from sppcls.config.schedule import size_schedule
from sppcls.data import prepare_batch, size_label
from sppcls.evaluation import evaluate_protocol, load_protocol
from sppcls.runs.checkpoint import read_checkpoint


def test_two_processes_train_and_their_validation_is_that_of_one(tiny, program, tmp_path: Path) -> None:
    # 47 and 41 images: neither divides by two processes, so padding or dropping would show.
    words = tiny("data.num_train=47", "data.num_val=41", "data.batch_size=8", "data.workers=1",
                 "log.images=true", "ema.enabled=true", "evaluation.protocols=[full]")  # fmt: skip
    process = program(["trainer=ddp", *words, "trainer.devices=2"], children=1)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    folders = list((tmp_path / "runs" / "shapes").iterdir())
    assert len(folders) == 1, "both processes write to one folder"
    with open(folders[0] / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["size"], row["images_seen"]) for row in rows] == [("96", "47"), ("72", "94")]
    assert output.count("epoch 1/2") == 1, "only the first process talks"

    config = compose(words)
    schedule = size_schedule(config)
    datamodule = make_datamodule(config, schedule, *load_sources(config)[:2])
    net = load_classifier(folders[0] / "last.ckpt")
    for size in val_sizes(config, schedule):
        wrong = total = 0
        for batch in datamodule.val_dataloader():
            with torch.no_grad():
                logits = net(prepare_batch(batch.image, size, config.data.mean, config.data.std))
            wrong += int((logits.argmax(1) != batch.target).sum())
            total += len(batch.target)
        assert total == 41
        assert float(rows[-1][f"val_{size_label(size)}/top1_error"]) == pytest.approx(
            100 * wrong / total, rel=1e-5
        )

    alone = evaluate_protocol(net, datamodule.val, load_protocol("full").at(schedule.main))
    together = np.load(folders[0] / "protocols" / "full.npz")
    assert together["path"].tolist() == alone.names
    assert len(set(alone.names)) == 41
    best = together["top_score"][:, 0]
    assert best == pytest.approx(alone.top_score[:, 0], abs=1e-5)
    assert output.count("protocol full: top-1 error") == 1


def test_two_processes_stopped_within_an_epoch_go_on_and_count_every_image_once(
    tiny, program, tmp_path: Path
) -> None:
    words = [*tiny("data.num_train=94", "data.batch_size=2", "data.workers=1", "trainer.strategy=ddp",
                   "trainer.devices=2", "scheduler=constant"), "trainer.max_epochs=3"]  # fmt: skip

    def ended(process: Program) -> str:
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output
        return output

    for attempt in range(5):  # until the stop falls within an epoch, which depends on the machine's load
        folder = tmp_path / "runs" / "shapes" / f"parts{attempt}"
        once = [*words, f"run_name={folder.name}", "log.save_every_minutes=0.0001"]
        process = program(once, children=1)
        last = folder / "last.ckpt"
        # 24 steps in an epoch.
        wait_until(lambda last=last: last.exists() and read_checkpoint(last)["global_step"] > 24, process)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=300)[0]
        if process.returncode == 0:  # it came too late
            continue
        assert process.returncode == 128 + signal.SIGTERM, output
        assert output.count("Resume with") == 1
        counts = read_checkpoint(folder / "last.ckpt")["sppcls_progress"]["train_counts"]
        if 0 < counts[3] < 94:
            break
    assert 0 < counts[3] < 94
    assert re.search(r"resumed +.*last\.ckpt", ended(program([f"ckpt_path={folder}"], children=1)))
    ended(program([*words, "run_name=whole"], children=1))
    figures, weights = [], []
    for name in (folder.name, "whole"):
        with open(folder.parent / name / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        figures.append(
            [{k: v for k, v in r.items() if "second" not in k and k != "images_per_s"} for r in rows]
        )
        weights.append(torch.load(folder.parent / name / "last.ckpt", weights_only=True)["state_dict"])
    assert [row["images_seen"] for row in figures[0]] == ["94", "188", "282"]
    assert figures[0] == figures[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_one_process_in_this_one_leaves_nothing_behind(tiny) -> None:
    import os

    before = dict(os.environ)
    train(compose(tiny("trainer.max_epochs=1")))
    assert {k for k in os.environ if k not in before} <= {"PL_GLOBAL_SEED", "PL_SEED_WORKERS"}
