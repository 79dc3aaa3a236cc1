"""Real searches with real training runs, only small: killed, gone on with, pruned, failed, refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna")
from forked import Loaded
from PIL import Image
from tiny_runs import wait_until

from sppcls.cli.main import main
from sppcls.errors import SppclsError
from sppcls.runs.folder import lock_folder
from sppcls.sweeps.search.study import run_search

ROOT = Path(__file__).resolve().parents[3]

_SMALL = ["data.batch_size=16", "data.workers=0", "sizes.kind=single", "sizes.sizes=[72]", "pyramid=l321",
          "backbone.width=0.0625", "head.hidden=[16]", "trainer.accelerator=cpu", "trainer.threads=1",
          "log.images=false"]  # fmt: skip

# The rate of 1 is far too high: its loss is above that of 0.01 after every epoch. This seed draws 0.01, then 1.
_WORDS = [*_SMALL, "data.num_train=32", "data.num_val=20", "trainer.max_epochs=20", "name=rates",
          "objective=val/loss", "optimizer.lr=0.01,1", "head.dropout=interval(0,0.2)", "sampler.seed=3",
          "pruner.startup_trials=1", "pruner.warmup_epochs=1"]  # fmt: skip
_TWO_TRIALS = [*_WORDS, "n_trials=2"]


@pytest.fixture(autouse=True)
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def _rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "trials.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _metrics(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def killed(loaded: Loaded, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A search that was killed in the middle of its first trial, together with the run of that trial."""
    runs = tmp_path_factory.mktemp("search") / "runs"
    process = loaded.start(["-m", "sppcls.cli.main", "search", *_TWO_TRIALS, f"runs_dir={runs}"], children=1)
    first = runs / "rates" / "trial-0000"
    wait_until((first / "last.ckpt").exists, process)
    child = int((first / ".lock").read_text().split()[0])
    process.kill()
    os.kill(child, signal.SIGKILL)
    process.communicate()
    process.close()
    return {"runs": runs, "folder": runs / "rates", "epochs": len(_metrics(first))}


@pytest.fixture(scope="module")
def interrupted(loaded: Loaded, killed: dict[str, Any]) -> str:
    """What the same search, gone on with, has said when Ctrl-C stopped it in the same trial."""
    log = killed["folder"] / "trial-0000" / "train.log"
    words = ["-m", "sppcls.cli.main", "search", *_TWO_TRIALS, f"runs_dir={killed['runs']}"]
    process = loaded.start(words, children=1)
    wait_until(lambda: log.read_text().count("resumed  ") == 1, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[0]
    process.close()
    assert process.returncode == 130, said
    return said


@pytest.fixture(scope="module")
def search(loaded: Loaded, killed: dict[str, Any], interrupted: str) -> Path:
    """The same search, gone on with by the same command until it was done."""
    words = ["-m", "sppcls.cli.main", "search", *_TWO_TRIALS, f"runs_dir={killed['runs']}"]
    done = loaded.run(words, children=2)
    assert done.returncode == 0, done.stderr
    return killed["folder"]


def test_ctrl_c_saves_and_says_how_to_go_on(interrupted: str) -> None:
    assert "0 of 2 trials done; 1 begun before is resumed first" in interrupted
    assert "stopping: the run saves what it has" in interrupted
    assert "0 of 2 trials done (1 begun)." in interrupted
    assert "The same command again continues." in interrupted
    assert "Traceback" not in interrupted


def test_a_killed_search_goes_on_with_the_trial_that_it_was_killed_in(
    killed: dict[str, Any], search: Path
) -> None:
    assert search == killed["folder"]
    assert 1 <= killed["epochs"] < 20
    assert [row["trial"] for row in _rows(search)] == ["trial-0000", "trial-0001"]
    assert [int(row["epoch"]) for row in _metrics(search / "trial-0000")] == list(range(20))
    log = (search / "trial-0000" / "train.log").read_text()
    assert log.count(f"resumed     {search / 'trial-0000' / 'last.ckpt'}") == 2
    # Read by SQLite itself: nothing is left running.
    with sqlite3.connect(search / "study.db") as database:
        states = [state for (state,) in database.execute("select state from trials order by number")]
    database.close()
    assert states == ["COMPLETE", "PRUNED"]


def test_a_trial_is_worth_what_its_run_ended_with(search: Path) -> None:
    row = _rows(search)[0]
    assert row["state"] == "finished"
    assert row["val/loss"] == f"{float(_metrics(search / 'trial-0000')[-1]['val_72/loss'])}"
    result = json.loads((search / "trial-0000" / "result.json").read_text())
    assert result["epochs"] == 20
    assert float(row["val/loss"]) == pytest.approx(result["last"]["val_72/loss"], rel=1e-5)


def test_a_bad_trial_is_stopped_early(search: Path) -> None:
    row = _rows(search)[1]
    run = search / row["trial"]
    assert (row["state"], row["val/loss"]) == ("pruned", "")
    # After the second epoch, the first that the pruner may judge; the run gets a little further until it notices.
    assert row["epochs"] == "2"
    assert 2 <= len(_metrics(run)) < 20
    assert (run / "last.ckpt").is_file()
    assert not (run / "result.json").exists()


def test_runs_have_the_values_drawn_for_them_and_these_lie_in_their_ranges(search: Path) -> None:
    for row in _rows(search):
        config = yaml.safe_load((search / row["trial"] / "config.yaml").read_text())
        assert config["optimizer"]["lr"] == float(row["optimizer.lr"])
        assert config["head"]["dropout"] == float(row["head.dropout"])
        assert 0 <= config["head"]["dropout"] <= 0.2
    assert [row["optimizer.lr"] for row in _rows(search)] == ["0.01", "1"]


def test_a_search_that_is_done_does_nothing_and_says_how_to_go_on(
    search: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in search.glob("trial-*/*")}
    assert main(["search", *_WORDS, "n_trials=2", f"runs_dir={search.parent}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in search.glob("trial-*/*")} == before
    said = capsys.readouterr().out
    assert "2 of 2 trials done; nothing to do, a higher n_trials continues" in said
    assert "2 of 2 trials done (1 finished, 1 pruned)." in said
    dropout = _rows(search)[0]["head.dropout"]
    again = next(line for line in said.splitlines() if line.startswith("  python train.py data.batch_size"))
    assert again.endswith(f"optimizer.lr=0.01 head.dropout={dropout}")
    assert "it flatters" in said
    assert "seed=1,2,3 name=rates-best" in said
    assert f"tensorboard --logdir {search}" in said


def test_one_process_at_a_time_searches_in_a_folder(search: Path) -> None:
    with lock_folder(search), pytest.raises(SppclsError, match="in use by process") as caught:
        run_search([*_WORDS, "n_trials=2", f"runs_dir={search.parent}"])
    assert "\n" not in str(caught.value)


def test_a_damaged_study_is_one_line(search: Path, tmp_path: Path) -> None:
    folder = tmp_path / "rates"
    folder.mkdir()
    (folder / "search.json").write_bytes((search / "search.json").read_bytes())
    (folder / "study.db").write_bytes(b"no database at all" * 1000)
    words = [*_WORDS, "n_trials=2", f"runs_dir={tmp_path}"]
    with pytest.raises(SppclsError, match=r"study.db: cannot be used \(file is not a database\)"):
        run_search(words)
    (folder / "study.db").unlink()
    (folder / "trial-0000").mkdir()
    with pytest.raises(SppclsError, match=r"study.db: is empty, but .* has trials"):
        run_search(words)


def test_killed_while_its_outcome_was_written_down_a_finished_trial_is_not_lost(
    search: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "rates"
    shutil.copytree(search, folder)
    with sqlite3.connect(folder / "study.db") as database:
        database.execute("update trials set state = 'RUNNING', datetime_complete = null where number = 0")
        database.execute(
            "delete from trial_values where trial_id in (select trial_id from trials where number = 0)"
        )
    database.close()
    run_search([*_WORDS, "n_trials=2", f"runs_dir={tmp_path}"])
    assert _rows(folder) == _rows(search)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of four training images, one of them cut off after its header, and two validation images."""
    root = tmp_path / "photos"
    for split, count in (("train", 4), ("val", 2)):
        for name, colour in (("dark", 40), ("light", 200)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (96, 96), (colour + 5 * number, colour, colour))
                image.save(root / split / name / f"{number}.jpg")
    whole = (root / "train" / "dark" / "0.jpg").read_bytes()
    (root / "train" / "dark" / "0.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    return root


def test_what_fails_diverges_or_is_impossible_does_not_stop_the_rest(
    photos: Path, loaded: Loaded, tmp_path: Path
) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "mine.yaml").write_text(
        """
        fixed: [trainer.max_epochs=1]
        cells:
          fine: [data.on_error=skip]
          diverges: [data.on_error=skip, optimizer.lr=1e30]
          fails: [data.on_error=raise]
        params: {pyramid.levels: [[2, 1], null], sizes.sizes: [[72], [96, 72]], sizes.kind: [single, alternate]}
        sampler: {name: random, seed: 0}
        """
    )
    small = [word for word in _SMALL if not word.startswith(("sizes.", "pyramid=", "data.batch"))]
    words = [
        "+search=mine",
        f"--config-dir={tmp_path}",
        *small,
        "data=folder",
        f"data.root={photos}",
        "data.check=false",
        "data.batch_size=2",
        "sizes.val_sizes=[72]",
        f"runs_dir={tmp_path / 'runs'}",
        "n_trials=1",
    ]
    done = loaded.run(["-m", "sppcls.cli.main", "search", *words], children=2)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    rows = _rows(folder)
    ended = {row["state"]: row for row in rows}
    # This seed draws two combinations that cannot be, then these two.
    assert [row["state"] for row in rows if row["state"] != "impossible"] == ["failed", "diverged"]
    assert ended["failed"]["cell"] == "fails"
    assert f"{photos}/train/dark/0.jpg: damaged image" in ended["failed"]["reason"]
    assert ended["diverged"]["cell"] == "diverges"
    assert "the loss is nan at epoch 1" in ended["diverged"]["reason"]
    for row in rows:
        one_size = row["sizes.sizes"] == "[72]"
        possible = one_size == (row["sizes.kind"] == "single") and (
            one_size or row["pyramid.levels"] != "null"
        )
        assert possible == (row["state"] != "impossible") == (folder / row["trial"]).exists()
    # A failed trial does not count, and is told.
    assert "1 of 1 trials done (1 diverged, 1 failed, 2 impossible)." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
