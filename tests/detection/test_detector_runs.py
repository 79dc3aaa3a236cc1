"""Detectors by Hydra: one config, sweeps that go on, and comparisons of what they reached."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from forked import Program
from region_nets import save_net
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import sppcls
from sppcls.cli.main import main
from sppcls.comparison import compare
from sppcls.comparison.board.logdir import write_board
from sppcls.config.compose import conf_dir
from sppcls.config.schema_detection import DetectionConfig
from sppcls.detection.ap import judge
from sppcls.detection.pooled import RegionRules
from sppcls.detection.predict import detect_set
from sppcls.detection.run import run_detector, settings_of
from sppcls.detection.scales import SCALE_RULES, parse_scales
from sppcls.detection.scenes import scenes
from sppcls.detection.settings import SCORERS
from sppcls.detection.svm import DUPLICATES
from sppcls.errors import ConfigError, DataError, SppclsError
from sppcls.evaluation.mapping import WINDOW_RULES


def words(place: Path, *more: str) -> list[str]:
    return [f"detection.checkpoint={place}/net.ckpt", "detection.data=shapes", "detection.scenes=18", "detection.limit=700",
            "detection.scales='120,200'", "detection.proposals=grid", "detection.tuning_steps=50", f"detection.maps_dir={place}/cache",
            f"runs_dir={place}/runs", "data.workers=0", "trainer.threads=1", *more]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pool5 and ftfc7 with seeds 0 and 1."""
    place = tmp_path_factory.mktemp("hydra")
    save_net(place / "net.ckpt")
    for features in ("pool5", "ftfc7"):
        for seed in (0, 1):
            more = [f"detection.features={features}", f"seed={seed}", "name=features"]
            assert main(["train", *words(place, *more)]) == 0
    return place


def test_a_config_makes_the_detector_of_its_settings(runs: Path) -> None:
    folder = runs / "runs/features/ftfc7-bb-120_200-seed1"
    detector = sppcls.load_detector(folder / "detector.ckpt")
    settings = settings_of(sppcls.compose(words(runs, "seed=1")))
    assert detector.about["settings"]["tuning"]["steps"] == 50 == settings.tuning.steps
    assert (detector.layer, detector.about["settings"]["seed"]) == ("fc7", 1)
    # What was judged is what the file finds.
    images = scenes("val", 6)
    result = judge(images, detect_set(detector, images, detector.proposer, runs / "cache"))
    kept = json.loads((folder / "result.json").read_text())
    assert kept["map"] == pytest.approx(result.mean)
    assert kept["images"] == 6
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["detection"]["features"] == "ftfc7"
    assert list(folder.glob("events.out.tfevents.*"))


def test_the_same_command_goes_on_in_its_folder_and_another_one_beside(
    runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = sppcls.compose(words(runs, "detection.features=pool5", "name=features"))
    said: list[str] = []
    folder = run_detector(config, say=said.append)
    assert folder.name == "pool5-bb-120_200-seed0"
    assert any(re.match("SVMs on spp: there", line) for line in said)
    config.detection.nms = 0.5
    assert run_detector(config).name == "pool5-bb-120_200-seed0-2"
    # Unnamed, it does not go by the classifier's images.
    config.name, config.detection.passes = "shapes", 1
    assert run_detector(config).parent.name == "detect"


def test_features_are_compared_with_intervals_over_the_images(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs / "runs/features"
    paths = [folder / f"{name}-bb-120_200-seed{seed}" for name in ("pool5", "ftfc7") for seed in (0, 1)]
    comparison = compare(paths)
    assert [(group.label, group.seeds) for group in comparison.groups] == [
        ("features=pool5", [0, 1]), ("features=ftfc7", [0, 1])]  # fmt: skip
    assert main(["compare", *map(str, paths), "--out", str(runs / "report")]) == 0
    out = capsys.readouterr().out
    assert "100 - mAP" in out
    assert "val_11-point/map_error" in out
    assert "top1" not in out
    assert "epoch" not in out
    # The interval by hand, of detections judged anew with the same draws of the images.
    images = scenes("val", 6)
    draws = []
    for path in paths:
        detector = sppcls.load_detector(path / "detector.ckpt")
        draws.append(
            judge(images, detect_set(detector, images, detector.proposer, runs / "cache")).draws[:, 0]
        )
    gain = (draws[0] - draws[2] + draws[1] - draws[3]) / 2
    low, high = np.percentile(gain, [2.5, 97.5])
    assert low < high
    assert f"over the 6 images {low:+.2f} to {high:+.2f}" in out
    page = (runs / "report/comparison.html").read_text()
    assert "100 - mAP" in page
    assert "top1" not in page
    # In TensorBoard: the curve and the table of each run, and fine-tuning by step.
    board = write_board(comparison, runs / "board")
    errors = [100 - json.loads((path / "result.json").read_text())["map"]["11-point"] for path in paths]
    events = EventAccumulator(str(board / "mean/features=ftfc7"))
    events.Reload()
    (mean,) = events.Scalars("final/val_11-point/map_error")
    assert mean.value == pytest.approx(sum(errors[2:]) / 2, rel=1e-5)
    assert "val_11-point/map_error" in events.Tags()["scalars"]
    events = EventAccumulator(str(board / "seed0/features=ftfc7"))
    events.Reload()
    assert [point.step for point in events.Scalars("fine-tuning/loss")] == [50]
    assert not any("top1" in tag for tag in events.Tags()["scalars"])


def test_a_sweep_makes_every_detector_once(
    runs: Path, program: Callable[..., Program], capfd: pytest.CaptureFixture[str]
) -> None:
    sweep = words(
        runs,
        "detection.features=pool5,ftfc6",
        "name=swept",
        "detection.passes=1",
        "detection.limit=200",
        "-m",
    )
    process = program(sweep, children=2)
    out, _ = process.communicate()
    assert process.returncode == 0, out
    assert "mAP 11-point" in out
    assert "val_11-point/map_error" in out
    assert main(["train", *sweep]) == 0
    assert "2 finished" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["detection.features=fc9x"], r"detection\.features=fc9x: choose from pool5"),
        (
            ["detection.scorer=softmax", "detection.features=fc7"],
            r"detection\.scorer=softmax: the fine-tuned",
        ),
        (["detection.data=null"], r"detection\.data: missing"),
        (["detection.checkpoint=null"], r"detection\.checkpoint: missing"),
        (["ckpt_path=auto"], r"ckpt_path=auto: the same command again resumes"),
        (["detection.data=photos"], r"detection\.scenes=18: scenes are generated for"),
        (["detection.scale_rule=x"], r"detection\.scale_rule=x: choose from area, released"),
    ],
)
def test_what_does_not_fit_is_one_line_before_anything_is_read(
    tmp_path: Path, more: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        sppcls.compose(words(tmp_path, *more))


def test_what_cannot_be_trained_writes_nothing(runs: Path, tmp_path: Path) -> None:
    for more, error in (
        ("detection.features=fc8", ConfigError),
        ("detection.scales='20'", ConfigError),
        ("detection.test_split=test", DataError),
        (f"detection.checkpoint={tmp_path}/none.ckpt", SppclsError),
        ("trainer.accelerator=gpu", ConfigError),
    ):
        with pytest.raises(error):
            run_detector(sppcls.compose(words(runs, more, f"runs_dir={tmp_path}/runs")))
    assert not (tmp_path / "runs").exists()


def test_the_schema_offers_what_the_rules_know() -> None:
    choices = {name: spec.metadata["choices"] for name, spec in DetectionConfig.__dataclass_fields__.items()}
    assert choices["scale_rule"] == SCALE_RULES
    assert choices["window_rule"] == WINDOW_RULES
    assert choices["duplicates"] == DUPLICATES
    assert choices["scorer"] == SCORERS
    assert RegionRules().scale_rule == SCALE_RULES[0]


@pytest.mark.parametrize("row", ["pool5", "fc6", "ftfc6", "ftfc7", "ftfc7_bb"])
def test_every_row_of_table_9_is_an_experiment_with_its_figures(row: str) -> None:
    figures = {"pool5": (43.0, 44.9), "fc6": (42.5, 44.8), "ftfc6": (52.3, 53.7), "ftfc7": (54.5, 55.2),
               "ftfc7_bb": (58.0, 59.2)}[row]  # fmt: skip
    head = (conf_dir() / f"experiment/paper/detect_{row}.yaml").read_text()
    assert f"mAP {figures[0]} % at one scale, {figures[1]} % at five" in head
    page = (Path(__file__).parents[2] / "docs/howto/detect.md").read_text(encoding="utf-8")
    assert f"| `paper/detect_{row}` | {figures[0]} | {figures[1]} |" in page
    for choice, scales in (("one", 1), ("five", 5)):
        config = sppcls.compose([f"experiment=paper/detect_{row}", f"detection={choice}"])
        settings = settings_of(config)
        assert settings.layer == {"pool5": "spp", "fc6": "fc6", "ftfc6": "fc6"}.get(row, "fc7")
        assert settings.tuning.steps == (300_000 if row.startswith("ft") else 0)
        assert settings.regression == row.endswith("bb")
        assert len(parse_scales(settings.scales)) == scales
        assert (config.detection.split, config.detection.test_split) == ("trainval", "test")


def test_an_unfinished_detector_is_a_line(runs: Path, tmp_path: Path) -> None:
    one = next((runs / "runs/features").glob("pool5*seed1"))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/config.yaml").write_text((one / "config.yaml").read_text())
    comparison = compare([one, tmp_path / "begun"])
    assert any("not finished yet" in line for line in comparison.problems)


def test_tables_11_and_12_by_class_have_the_papers_means() -> None:
    page = (Path(__file__).parents[2] / "docs/howto/detect.md").read_text(encoding="utf-8")
    lines = page.partition("### By class")[2].partition("\n## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    by_class = {name: [float(cell) for cell in cells] for name, *cells in rows[:-1]}
    assert len(by_class) == 20
    means = np.mean(list(by_class.values()), 0)
    assert [f"{mean:.1f}" for mean in means] == rows[-1][1:] == ["59.2", "55.2", "59.2", "59.1", "60.9"]
    head = " ".join((conf_dir() / "experiment/paper/detect_ftfc7_bb.yaml").read_text().split())
    for name, figures in by_class.items():
        assert f"{name} {figures[2]}" in head.replace(" # ", " ")
