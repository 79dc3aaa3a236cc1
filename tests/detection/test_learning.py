"""SVMs with mining, box regression and fine-tuning, against scikit-learn, normal equations and a run without a kill."""

from __future__ import annotations

import copy
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from region_nets import make_net
from sklearn.svm import LinearSVC

from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.detection.proposals import Proposer, propose
from sppcls.detection.regression import BoxRegression, apply_offsets, offsets, ridge, train_regression
from sppcls.detection.scenes import scenes
from sppcls.detection.steps import rate
from sppcls.detection.svm import SVMRules, _OneClass, _Rows, positives, train_svms
from sppcls.detection.truth import DetectionSet, Truth
from sppcls.detection.tuning import TuningRules, tune, with_background
from sppcls.detection.window_set import WindowSet, norm_factor
from sppcls.errors import DataError
from sppcls.inference.transfer.tasks import fit_svm, svm_module
from sppcls.nn import SPPClassifier


def window_set(folder: Path, images: DetectionSet, net: SPPClassifier | None = None) -> WindowSet:
    regions = Regions(net or make_net(folder), RegionRules((160,), region=96))
    windows = propose(images, Proposer("grid", 700), folder)
    maps = KeptMaps(regions, images, folder)
    return WindowSet(images, windows, regions, maps)


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> WindowSet:
    return window_set(tmp_path_factory.mktemp("learning"), scenes("train", 16))


def test_mining_to_the_end_gives_the_svm_of_all_negatives(learning: WindowSet) -> None:
    factor = norm_factor(learning, "spp")
    # A larger C, so that easy negatives are left out on the way.
    rules = SVMRules(duplicates="cells", c=0.05, passes=50)
    scorer, mined = train_svms(learning, "spp", factor, rules)
    assert mined.passes < 50
    for label, own in enumerate(positives(learning, "spp")):
        rows, labels = [own * factor], [np.ones(len(own))]
        for index in range(len(learning)):
            negative = learning.overlap_with(index, label) < 0.3
            rows.append(learning.features(index, "spp")[negative] * factor)
            labels.append(np.zeros(int(negative.sum())))
        assert len(np.concatenate(rows)) > mined.negatives[label] + len(own)  # some were left out
        svm = LinearSVC(
            loss="hinge",
            C=0.05,
            intercept_scaling=10,
            class_weight={1: 2},
            tol=1e-6,
            max_iter=200_000,
            random_state=1,
        )
        svm.fit(np.concatenate(rows), np.concatenate(labels))
        everything = np.concatenate(rows)
        expected = svm.decision_function(everything)
        found = everything / factor @ scorer.weight[label] + scorer.bias[label]
        assert np.abs(found - expected).max() < 0.05
        assert np.corrcoef(found, expected)[0, 1] > 0.999


def test_near_duplicates_are_left_out(learning: WindowSet) -> None:
    _, all_cells = train_svms(learning, "spp", 1.0, SVMRules(duplicates="cells", passes=1))
    _, apart = train_svms(learning, "spp", 1.0, SVMRules(duplicates="iou", passes=1))
    assert max(apart.negatives) < max(all_cells.negatives)


def test_a_negative_near_one_of_an_earlier_pass_is_left_out() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(4, 3)).astype(np.float32)
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 11], [0, 0, 10, 30], [50, 50, 60, 60]])
    with tempfile.TemporaryFile() as file:
        rows = _Rows(file, 1.0)
        machine = _OneClass(np.full((1, 3), 5, np.float32), SVMRules(), rows)
        # By score 1 comes before 0, which it overlaps by 10/11; 2 and 3 are apart.
        assert machine.add(7, features, np.array([1.0, 2, 0, 0]), np.array([0, 1, 2]), boxes) == 2
        machine.ids, machine.boxes = np.array([[7, 1]]), boxes[[1]]
        machine.trained = True
        assert machine.add(7, features, np.array([1.0, 2, -2, 0]), np.arange(4), boxes) == 1
        assert machine.ids.tolist() == [[7, 1], [7, 3]]
        assert machine.add(8, features, np.zeros(4), np.array([0]), boxes) == 1  # another image


def test_negatives_are_kept_once_exactly_and_in_half_the_room_where_that_is_exact() -> None:
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(6, 40)).clip(0).astype(np.float16).astype(np.float32)  # as from maps of float16
    hidden = rng.normal(size=(6, 40)).astype(np.float32)
    own = rng.normal(size=(2, 40)).clip(0).astype(np.float32)
    with tempfile.TemporaryFile() as file:
        rows = _Rows(file, 1.7)
        rows.add(3, np.array([1, 4]), pooled)
        rows.add(3, np.array([4, 5]), pooled)
        rows.add(8, np.array([0]), hidden)
        assert rows._end == 3 * 40 * 2 + 40 * 4
        found = rows.matrix(own, np.array([[8, 0], [3, 5], [3, 1], [3, 4]]))
        expected = np.stack([hidden[0], pooled[5], pooled[1], pooled[4]]) * np.float32(1.7)
        assert found.dtype == np.float32
        assert (found == np.concatenate([own, expected])).all()
        assert rows.matrix(own, np.empty((0, 2), np.int64)).shape == (2, 40)


def test_float32_rows_are_not_copied_and_give_the_svm_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 400)).clip(0).astype(np.float32)
    targets = np.where(rows @ rng.normal(size=400) > 8, 1, -1)
    svm_module()
    tracemalloc.start()
    svm, converged = fit_svm(rows, targets, 0.05, positive_weight=2.0, bias=10.0, tolerance=1e-3)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < rows.nbytes / 2  # what LIBLINEAR itself takes is not Python's
    expected = LinearSVC(loss="hinge", C=0.05, intercept_scaling=10, class_weight={1: 2}, tol=1e-3, max_iter=10_000, random_state=0)  # fmt: skip
    expected.fit(rows.astype(np.float64), targets)
    assert converged
    assert (svm.coef_ == expected.coef_).all()
    assert (svm.intercept_ == expected.intercept_).all()
    assert (svm.predict(rows) == expected.predict(rows)).all()
    three = rng.integers(0, 3, len(rows))
    assert (
        fit_svm(rows, three, 1.0)[0].predict(rows)
        == fit_svm(rows.astype(np.float64), three, 1.0)[0].predict(rows)
    ).all()


def test_a_scikit_learn_that_has_changed_within_trains_too(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    targets = np.where(rows[:, 0] > 0, 1, -1)
    expected = fit_svm(rows, targets, 1.0)[0].coef_
    monkeypatch.setattr("sklearn.svm._base._fit_liblinear", lambda X, y, *, alpha: None)
    np.testing.assert_array_equal(fit_svm(rows, targets, 1.0)[0].coef_, expected)


def test_the_mean_norm_becomes_twenty(learning: WindowSet) -> None:
    for layer in ("spp", "fc7"):
        rows = np.concatenate([learning.features(i, layer) for i in range(len(learning))])
        factor = norm_factor(learning, layer)
        assert np.linalg.norm(rows * factor, axis=1).mean() == pytest.approx(20, rel=0.02)


def test_difficult_objects_are_no_positives_and_no_negatives(tmp_path: Path) -> None:
    base = scenes("train", 6)
    hard = tuple(
        Truth(t.boxes, np.zeros(len(t.labels), np.int64), np.arange(len(t.labels)) > 0) for t in base.truths
    )
    images = DetectionSet("hand", "train", ("a",), base.names, base.sizes, hard, base.image, base.digest)
    windows = window_set(tmp_path, images)
    assert len(positives(windows, "spp")[0]) == sum(len(t.labels) > 0 for t in hard)
    for index, truth in enumerate(hard):
        overlap = windows.overlap_with(index, 0)
        rows = windows.places[index][: len(truth.labels)]
        assert (overlap[rows] == 1).all()  # the difficult ones too


def test_a_class_without_an_object_is_one_line(tmp_path: Path) -> None:
    images = scenes("train", 3)
    more = DetectionSet(
        "hand",
        "train",
        (*images.classes, "moon"),
        images.names,
        images.sizes,
        images.truths,
        images.image,
        images.digest,
    )
    with pytest.raises(DataError, match=r"class '.*' has no object in train"):
        train_svms(window_set(tmp_path, more), "spp", 1.0, SVMRules())


# --- box regression


def test_offsets_and_back() -> None:
    boxes, targets = np.array([[10.0, 20, 30, 60]]), np.array([[12.0, 14, 52, 54]])
    moves = offsets(boxes, targets)
    # Centre (20, 40) to (32, 34) in sides of 20 x 40; twice as wide, as high.
    np.testing.assert_allclose(moves, [[0.6, -0.15, np.log(2), 0]], atol=1e-12)
    np.testing.assert_allclose(apply_offsets(boxes, moves), targets)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40)])
def test_ridge_is_that_of_the_normal_equations_of_whitened_targets(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), rng.normal(size=(shape[0], 4)) @ rng.normal(size=(4, 4)) + 3
    weight, bias = ridge(x.astype(np.float32), y, 7.0)
    # R-CNN's procedure, in the primal and with other routines.
    mean = y.mean(0)
    covariance = np.cov((y - mean).T, bias=True)
    root = np.real(scipy.linalg.sqrtm(covariance + 0.001 * np.eye(4)))
    white = (y - mean) @ np.linalg.inv(root)
    ones = np.hstack([x, np.ones((shape[0], 1))])
    solution = scipy.linalg.solve(ones.T @ ones + 7 * np.eye(shape[1] + 1), ones.T @ white) @ root
    np.testing.assert_allclose(weight, solution[:-1].T, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(bias, solution[-1] + mean, rtol=1e-3, atol=1e-4)


def test_a_plan_that_is_linear_is_recovered() -> None:
    rng = np.random.default_rng(1)
    rows, moves = rng.normal(size=(60, 200)).astype(np.float32), rng.normal(size=(4, 200)) * 0.02
    weight, bias = ridge(rows, rows @ moves.T, 1e-6)
    boxes = np.tile([[100.0, 80, 160, 200]], (60, 1))
    wanted = apply_offsets(boxes, rows @ moves.T)
    found = BoxRegression(weight[None], bias[None])(0, rows, boxes, (10_000, 10_000))
    assert np.abs(found - np.clip(wanted, 0, None)).max() < 0.05


def test_regression_brings_windows_nearer_to_their_objects(learning: WindowSet) -> None:
    regression = train_regression(learning, norm_factor(learning, "spp"), 10.0)
    before, after = [], []
    for index, truth in enumerate(learning.images.truths):
        best, number = learning.best_object(index)
        for place in np.flatnonzero((best > 0.5) & (best < 1)):
            box, target = learning.boxes[index][place][None], truth.boxes[number[place]][None]
            rows = learning.features(index, "spp", learning.places[index][[place]])
            moved = regression(int(truth.labels[number[place]]), rows, box, learning.images.sizes[index])
            before.append(np.abs(box - target).mean())
            after.append(np.abs(moved - target).mean())
    assert len(before) >= 20
    assert np.mean(after) < 0.6 * np.mean(before)


# --- fine-tuning


def states(net: SPPClassifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def test_only_the_fc_layers_learn_and_a_kill_changes_nothing(learning: WindowSet, tmp_path: Path) -> None:
    rules = TuningRules(steps=120, lr=0.02)
    start = with_background(learning.regions.net, learning.images.classes)
    assert start.model_info["classes"][-1] == "(background)"
    figures: list[float] = []
    whole = copy.deepcopy(start)
    tune(whole, learning, rules, tmp_path / "a.pt", log=lambda step, f: figures.append(f["loss"]))
    assert figures[-1] < figures[0]
    for name, value in states(whole).items():
        same = torch.equal(value, start.state_dict()[name])
        assert same == (name.startswith("backbone.") or name == "head.input_scale"), name

    class Killed(Exception):
        pass

    def kill(step: int, figures: dict[str, float]) -> None:
        if step == 100:
            raise Killed  # after the block, before it is saved

    stopped = copy.deepcopy(start)
    with pytest.raises(Killed):
        tune(stopped, learning, rules, tmp_path / "b.pt", log=kill)
    again = copy.deepcopy(start)
    torch.rand(7)  # another state of torch's generator
    steps: list[int] = []
    tune(again, learning, rules, tmp_path / "b.pt", log=lambda step, f: steps.append(step))
    assert steps == [100, 120]
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in states(whole).items())
    # All done: nothing runs.
    finished = copy.deepcopy(start)
    tune(finished, learning, rules, tmp_path / "b.pt", log=kill)
    assert all(torch.equal(value, finished.state_dict()[name]) for name, value in states(whole).items())


def test_the_rate_falls_in_the_last_sixth() -> None:
    assert [rate(0.3, step, 300) for step in (0, 249, 250, 299)] == pytest.approx([0.3, 0.3, 0.03, 0.03])


def test_a_damaged_state_is_one_line(learning: WindowSet, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"no state")
    net = with_background(learning.regions.net, learning.images.classes)
    with pytest.raises(DataError, match=r"a\.pt: damaged; remove it"):
        tune(net, learning, TuningRules(steps=50), tmp_path / "a.pt")
