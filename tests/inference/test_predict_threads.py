"""Prediction with a thread for each core: the answers of one thread, in order, and nothing left behind."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sppcls import predict
from sppcls._util.threads import one_core_each
from sppcls.nn import LevelLargerThanMapWarning, SPPClassifier, build_classifier
from sppcls.runs.checkpoint import make_model_info

CLASSES = ["a", "b", "c", "d"]


@pytest.fixture
def three_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net() -> SPPClassifier:
    torch.manual_seed(0)
    architecture = {
        "backbone": {"name": "zf5", "width": 0.0625, "norm": "batch"},
        "pyramid": {"levels": [6, 1]},
        "head": {"name": "fc", "hidden": [16], "dropout": 0.5},
        "num_classes": len(CLASSES),
        "input_size": (56, 56),
        "init": "modern",
    }
    result = build_classifier(**architecture).eval()
    result.model_info = make_model_info(
        architecture=architecture, classes=CLASSES, mean=[0.5] * 3, std=[0.2] * 3, train_sizes=[(56, 56)],
        val_sizes=[(56, 56)], config={},
    )  # fmt: skip
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 files of 12 shapes and a large one; numbers 20 and 140 are no images."""
    place = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for i in range(150):
        shape = (600, 500, 3) if i == 70 else (64, 64 + 5 * int(draw.integers(0, 12)), 3)
        Image.fromarray(draw.integers(0, 256, shape, np.uint8)).save(place / f"{i:03d}.png")
    for i in (20, 140):
        (place / f"{i:03d}.png").write_bytes(b"no image")
    return place


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize("workers", [0, 2])
def test_the_answers_are_those_of_one_thread(net: SPPClassifier, folder: Path, workers: int) -> None:
    torch.set_num_threads(1)
    expected = list(predict(net, folder, top=4, shorter_side="native", batch_size=1))
    torch.set_num_threads(3)
    used = set()

    def note(*_: object) -> None:
        used.add((threading.get_ident(), torch.get_num_threads()))

    with net.backbone.register_forward_pre_hook(note):
        got = list(predict(net, folder, top=4, shorter_side="native", workers=workers))
    assert [p.path.name for p in got] == [f"{i:03d}.png" for i in range(150)]
    assert [p.error for p in got] == [p.error for p in expected]
    assert [i for i, p in enumerate(got) if p.error] == [20, 140]
    assert [p.classes for p in got] == [p.classes for p in expected]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.probabilities, b.probabilities, rtol=0, atol=1e-6)
    # The large image took all three cores, in the thread that asked.
    own = threading.get_ident()
    assert {cores for thread, cores in used if thread == own} == {3}
    assert {cores for thread, cores in used if thread != own} == {1}
    assert len(used) > 2


@pytest.mark.usefixtures("three_cores")
def test_nothing_is_left_behind(net: SPPClassifier, folder: Path) -> None:
    before, filters = threading.active_count(), list(warnings.filters)
    answers = predict(net, folder, shorter_side="native")
    assert next(answers).path.name == "000.png"
    answers.close()
    assert threading.active_count() == before
    assert torch.get_num_threads() == 3
    assert warnings.filters == filters
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


@pytest.mark.usefixtures("three_cores")
def test_autocast_of_the_caller_is_kept(net: SPPClassifier, folder: Path) -> None:
    types = set()
    hook = net.backbone.register_forward_hook(lambda *args: types.add(args[2].dtype))
    with hook, torch.autocast("cpu", torch.bfloat16):
        list(predict(net, sorted(folder.glob("00*.png")), shorter_side="native"))
    assert types == {torch.bfloat16}


def test_small_maps_bring_no_warning_but_elsewhere_still_do(net: SPPClassifier, folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(predict(net, sorted(folder.glob("01*.png")), shorter_side="native"))
    with pytest.warns(LevelLargerThanMapWarning), torch.no_grad():
        net(torch.zeros(1, 3, 41, 48))


@pytest.mark.usefixtures("three_cores")
def test_a_failure_in_a_thread_is_raised() -> None:
    with pytest.raises(ZeroDivisionError), one_core_each() as threads:
        threads.submit(lambda: 1 / 0).result()
    assert torch.get_num_threads() == 3
