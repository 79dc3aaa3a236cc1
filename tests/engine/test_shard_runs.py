"""Training from shards: the weights of the folder, bit for bit, and each image once whatever happens."""

from __future__ import annotations

import csv
import re
import signal
from pathlib import Path

import pytest
import torch
from shard_photos import serving, write_photos
from tiny_runs import wait_until

from sppcls import compose, train
from sppcls.cli.main import main
from sppcls.runs.checkpoint import read_checkpoint


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"), train=41, val=11)


@pytest.fixture(scope="module")
def packed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "out"
    assert main(["shards", str(photos), str(out), "--size", "30kB", "--workers", "0"]) == 0
    return out


def weights(folder: str | Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(Path(folder) / "last.ckpt", weights_only=True)["state_dict"]
    return found


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_weights_are_those_of_the_folder_bit_for_bit(tiny, photos: Path, packed: Path) -> None:
    pytest.importorskip("aiohttp")
    folder = train(compose(tiny("data=folder", f"data.root={photos}", "data.batch_size=8", "data.workers=0")))
    with serving(packed) as (address, requests):
        for root, workers in ((packed, 0), (address, 2)):
            words = tiny("data=shards", f"data.root={root}", "data.batch_size=8", f"data.workers={workers}")
            shards = train(compose(words))
            assert same(weights(folder["folder"]), weights(shards["folder"]))
            assert {**shards["last"], "seconds": 0} == {**folder["last"], "seconds": 0}
    # Two epochs, and one image to see whether it works.
    assert sum(line.startswith("GET /train") for line in requests) == 2 * 41 + 1
    # Another order gives others.
    other = train(compose([*words[:-1], "data.workers=0", f"data.root={packed}", "seed=1"]))
    assert not same(weights(folder["folder"]), weights(other["folder"]))


def test_a_broken_shard_is_skipped_or_stops_the_run_as_on_error_says(
    tiny, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in packed.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "train-000002.tar").unlink()
    words = tiny("data=shards", f"data.root={broken}", "data.batch_size=8", "data.workers=0")
    assert main(["train", *words]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "1 of 12 shards are broken" in error
    assert main(["train", *words, "data.check=false"]) == 0
    lost = int(re.search(r"(\d+) images? could not be read", capsys.readouterr().out)[1])
    assert 0 < lost < 10
    assert main(["train", *words, "data.check=false", "data.on_error=raise", "run_name=raise"]) == 1
    assert "train-000002.tar: class" in capsys.readouterr().err


def test_impossible_data_is_one_line(
    tiny, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sppcls.data.shards.storage._PAUSES", (0.01,))  # for one that comes back soon
    for root, line in (
        (photos, "there is no index.json there"),
        ("http://127.0.0.1:9", "cannot be reached"),
        ("nosuch://x", "Protocol not known"),
    ):
        assert main(["train", *tiny("data=shards", f"data.root={root}")]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert line in error
    assert main(["train", *tiny("data=shards")]) == 1
    assert "data.root: missing" in capsys.readouterr().err


def test_two_processes_killed_within_an_epoch_go_on_with_every_image_once(
    tiny, program, photos: Path, packed: Path, tmp_path: Path
) -> None:
    words = tiny("data=shards", f"data.root={packed}", "data.batch_size=2", "data.workers=1", "trainer=ddp",
                 "trainer.devices=2", "scheduler=constant", "trainer.max_epochs=3", "log.save_every_minutes=0.0001",
                 "sizes.sizes=[96,72]")  # fmt: skip
    runs = tmp_path / "runs" / "shards"
    # 11 steps in an epoch: 41 images by two processes of two.
    for attempt in range(5):  # until the kill falls within an epoch, which depends on the machine's load
        last = runs / f"killed{attempt}" / "last.ckpt"
        process = program([*words, f"run_name={last.parent.name}"], children=1)
        wait_until(lambda last=last: last.exists() and read_checkpoint(last)["global_step"] > 11, process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
        seen = read_checkpoint(last)["sppcls_progress"]["train_counts"][3]
        if 0 < seen < 41:
            break
    assert 0 < seen < 41
    for name in (last.parent.name, "whole"):
        word = f"ckpt_path={last.parent}" if name != "whole" else "run_name=whole"
        process = program([*([] if name != "whole" else words), word], children=1)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output
    figures = []
    for name in (last.parent.name, "whole"):
        with open(runs / name / "metrics.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        figures.append(
            [{k: v for k, v in r.items() if "second" not in k and k != "images_per_s"} for r in rows]
        )
    assert [row["images_seen"] for row in figures[0]] == ["41", "82", "123"]
    assert figures[0] == figures[1]
    assert same(weights(last.parent), weights(runs / "whole"))
