"""What a finished run leaves for comparisons: result.json, predictions/, pixels and seconds."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import wait_until

from sppcls import compose, train
from sppcls.errors import ConfigError
from sppcls.runs.folder import lock_folder


@pytest.fixture(scope="module")
def finished(tiny_words, tmp_path_factory) -> dict:
    words = [
        *tiny_words,
        f"runs_dir={tmp_path_factory.mktemp('kept')}",
        "data.num_train=47",
        "data.num_val=41",
    ]
    return train(compose(words))


def last_row(folder: Path) -> dict[str, str]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))[-1]


def test_predictions_of_the_last_epoch_give_its_error_at_every_size(finished) -> None:
    folder = Path(finished["folder"])
    row = last_row(folder)
    assert {p.name for p in (folder / "predictions").iterdir()} == {"val_96.npz", "val_72.npz"}
    for size in ("96", "72"):
        found = np.load(folder / "predictions" / f"val_{size}.npz")
        assert len(set(found["path"].tolist())) == 41
        for k in (1, 5):
            wrong = sum(
                label not in best[:k] for label, best in zip(found["label"], found["top_class"], strict=True)
            )
            assert float(row[f"val_{size}/top{k}_error"]) == pytest.approx(100 * wrong / 41, rel=1e-5)
        assert str(found["size"]) == size
        scores = found["top_score"]
        assert (scores[:, :-1] >= scores[:, 1:]).all()
        assert (scores.sum(1) <= 1 + 1e-5).all()


def test_result_json_says_what_was_trained_and_what_came_out(finished) -> None:
    folder = Path(finished["folder"])
    result = json.loads((folder / "result.json").read_text())
    row = last_row(folder)
    # 47 images at 96 and the same 47 at 72: counted by hand.
    assert result["pixels_seen"] == 47 * 96 * 96 + 47 * 72 * 72 == int(row["pixels_seen"])
    assert (result["epochs"], result["images_seen"], result["main_size"]) == (2, 94, "96")
    assert result["last"]["val_72/top1_error"] == pytest.approx(float(row["val_72/top1_error"]), rel=1e-5)
    assert "val_72/pixels" not in result["last"]
    assert result["last"]["val_72/images"] == 41
    assert float(row["train_seconds"]) == pytest.approx(result["train_seconds"], abs=1e-3)  # kept to 1 ms
    assert result["train_seconds"] > 0
    weights = finished_weights(folder)
    assert result["parameters"] == weights


def finished_weights(folder: Path) -> int:
    import torch

    state = torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]
    fixed = ("running_mean", "running_var", "num_batches_tracked", "input_scale")  # not trained
    return sum(v.numel() for k, v in state.items() if k.startswith("net.") and not k.endswith(fixed))


def test_pixels_and_seconds_go_on_after_a_kill(tiny, program, tmp_path: Path) -> None:
    words = tiny("data.num_train=160", "data.batch_size=2", "log.save_every_minutes=0.0001", "data.workers=1")
    process = program(words)
    wait_until(lambda: bool(list(tmp_path.glob("runs/*/*/last.ckpt"))), process)
    process.kill()
    process.wait()
    process.stdout.close()
    folder = next(tmp_path.glob("runs/*/*"))
    assert not (folder / "result.json").exists()
    again = program([*words, "ckpt_path=auto"])
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    assert list(folder.parent.iterdir()) == [folder]
    assert json.loads((folder / "result.json").read_text())["pixels_seen"] == 160 * (96 * 96 + 72 * 72)


def test_two_runs_never_write_to_one_folder(tiny, program, tmp_path: Path) -> None:
    words = tiny("data.num_train=2000", "data.batch_size=2", "log.save_every_minutes=0.0001")
    process = program(words)
    wait_until(lambda: bool(list(tmp_path.glob("runs/*/*/last.ckpt"))), process)
    folder = next(tmp_path.glob("runs/*/*"))
    second = program([*words, "ckpt_path=auto"])
    output = second.communicate(timeout=120)[0]
    assert second.returncode == 1
    assert f"{folder}: in use by process {process.pid} on " in output
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)


def test_a_lock_of_a_dead_process_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(f"999999999 {os.uname().nodename}")
    refused = pytest.raises(ConfigError, match=f"in use by process {os.getpid()}")
    with lock_folder(tmp_path), refused, lock_folder(tmp_path):
        pass
    with lock_folder(tmp_path):
        pass


def test_a_run_killed_between_its_last_checkpoint_and_its_result_gets_it(tiny, tmp_path: Path) -> None:
    words = tiny("ema.enabled=true", "evaluation.protocols=[full]", "trainer.max_epochs=1")
    folder = Path(train(compose(words))["folder"])
    whole = json.loads((folder / "result.json").read_text())
    answers = np.load(folder / "protocols" / "full.npz")["top_score"]
    (folder / "result.json").unlink()
    (folder / "protocols" / "full.npz").unlink()
    for _ in range(2):  # the second time it has finished
        train(compose([*words, f"ckpt_path={folder / 'last.ckpt'}"]))
        assert json.loads((folder / "result.json").read_text()) == whole
        np.testing.assert_array_equal(np.load(folder / "protocols" / "full.npz")["top_score"], answers)
    written = (folder / "result.json").stat().st_mtime_ns
    train(compose([*words, f"ckpt_path={folder / 'last.ckpt'}"]))
    assert (folder / "result.json").stat().st_mtime_ns == written
