"""Fine-tuning through the pooling: its gradient against crops of the map, and a run with a kill against one without."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from region_nets import make_net
from torch.nn.functional import adaptive_max_pool2d

import sppcls
from sppcls.detection.convolutions import pooled_with_gradient, tune_convolutions
from sppcls.detection.maps import KeptMaps
from sppcls.detection.pooled import RegionRules, Regions
from sppcls.detection.predict import detect_set
from sppcls.detection.proposals import Proposer, propose
from sppcls.detection.scenes import scenes
from sppcls.detection.settings import Settings
from sppcls.detection.train import train_detector
from sppcls.detection.tuning import TuningRules, with_background
from sppcls.detection.window_set import WindowSet


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> WindowSet:
    folder = tmp_path_factory.mktemp("convolutions")
    images = scenes("train", 6)
    regions = Regions(with_background(make_net(folder), images.classes), RegionRules((120, 200), region=96))
    windows = propose(images, Proposer("grid", 300), folder)
    return WindowSet(images, windows, regions, KeptMaps(regions, images, folder))


@pytest.mark.parametrize("mirrored", [False, True])
def test_vectors_and_gradient_are_those_of_crops_of_the_map(learning: WindowSet, mirrored: bool) -> None:
    regions, places = learning.regions, np.array([0, 250, 5, 17, 260, 90, 40, 200])
    net, image, size = regions.net, learning.images.image(1), learning.images.sizes[1]
    first = next(net.backbone.parameters())
    weights = torch.randn(8, regions.pooled_length, generator=torch.Generator().manual_seed(0))
    found = pooled_with_gradient(regions, learning, 1, places, mirrored)
    net.zero_grad()
    (found * weights).sum().backward()
    assert first.grad is not None
    gradient = first.grad.clone()
    # One window at a time, of a mirrored photo with mirrored boxes.
    boxes = learning.boxes[1][places]
    if mirrored:
        image = torch.from_numpy(image.numpy()[:, :, ::-1].copy())
        boxes = np.array([[size[1] - r, t, size[1] - l, b] for l, t, r, b in boxes])  # noqa: E741
    net.zero_grad()
    rows = []
    for number, top, left, bottom, right in regions.cells(boxes, size).tolist():
        whole = net.forward_features(regions.seen(image, regions.rules.scales[number]))
        crop = whole[0, :, top:bottom, left:right]
        rows.append(torch.cat([adaptive_max_pool2d(crop, n).flatten() for n in (3, 2, 1)]))
    expected = torch.stack(rows)
    (expected * weights).sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, first.grad, rtol=1e-3, atol=1e-4)


def test_all_weights_learn_and_a_kill_changes_nothing(learning: WindowSet, tmp_path: Path) -> None:
    rules = TuningRules(convolutions=45, convolutions_lr=0.01)

    def run(state: str, log: object = lambda step, figures: None) -> sppcls.nn.SPPClassifier:
        net = copy.deepcopy(learning.regions.net)
        regions = Regions(net, learning.regions.rules)
        tune_convolutions(regions, learning, rules, tmp_path / state, log=log)  # type: ignore[arg-type]
        return net

    losses: list[float] = []
    whole = run("a.pt", lambda step, figures: losses.append(figures["loss"]))
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    before = learning.regions.net.state_dict()
    for name, value in whole.state_dict().items():
        same = torch.equal(value, before[name])
        statistics = "running" in name or "num_batches" in name or name == "head.input_scale"
        assert same == statistics, name

    class Killed(Exception):
        pass

    def kill(step: int, figures: dict[str, float]) -> None:
        if step == 40:
            raise Killed  # before it is saved

    with pytest.raises(Killed):
        run("b.pt", kill)
    torch.rand(3)  # another state of torch's generator
    steps: list[int] = []
    again = run("b.pt", lambda step, figures: steps.append(step))
    assert steps == [40, 45]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_detector_of_new_convolutions_sees_by_them(tmp_path: Path) -> None:
    net, images = make_net(tmp_path), scenes("train", 6)
    settings = Settings(
        scales="120", proposals="grid", limit=300, tuning=TuningRules(steps=0, convolutions=5)
    )
    trained = train_detector(net, images, tmp_path / "det", settings, cache=tmp_path / "cache")
    detector = sppcls.load_detector(tmp_path / "det/detector.ckpt")
    first = next(iter(net.backbone.state_dict()))
    assert not torch.equal(
        detector.regions.net.backbone.state_dict()[first], net.backbone.state_dict()[first]
    )
    assert (detector.layer, detector.classes) == ("fc7", images.classes)
    judged = scenes("val", 2)
    kept = detect_set(trained, judged, detector.proposer, tmp_path / "cache")
    for index in range(2):
        alone = detector.detect(judged.image(index))
        assert (alone.scores == kept[index].scores).all()
