"""What the Python functions say of arguments of another kind: one line that names what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn
from torchvision import models

import sppcls
from sppcls.errors import SppclsError
from sppcls.nn import build_classifier

FUNCTIONS: dict[str, Callable[[object, Path], object]] = {
    "evaluate": lambda net, path: sppcls.evaluate(net, path),
    "explain": lambda net, path: sppcls.explain(net, path / "photo.jpg"),
    "predict": lambda net, path: list(sppcls.predict(net, path)),
    "extract_features": lambda net, path: sppcls.extract_features(net, path),
    "transfer": lambda net, path: sppcls.transfer(net, path),
    "export": lambda net, path: sppcls.export(net, path / "net.onnx"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_no_network_of_ours(name: str, tmp_path: Path) -> None:
    for net, kind in (
        (models.resnet18(), "ResNet"),
        ("best.ckpt", "str"),
        (None, "NoneType"),
        (nn.Linear(1, 1), "Linear"),
    ):
        with pytest.raises(SppclsError, match=rf"^net: a {kind}, .*sppcls\.load_classifier\(") as caught:
            FUNCTIONS[name](net, tmp_path)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_network_without_a_card(name: str, tmp_path: Path) -> None:
    net = build_classifier(
        backbone={"name": "zf5", "width": 0.0625},
        pyramid={"levels": [1]},
        head={"name": "linear"},
        num_classes=2,
        input_size=(96, 96),
    )
    with pytest.raises(SppclsError, match=r"^net: has no model_info .* take it from sppcls\.load_classifier"):
        FUNCTIONS[name](net.eval(), tmp_path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sppcls.train(["data=shapes"]), r"^config: a list, .*sppcls\.compose"),
        (lambda: sppcls.train({}), r"^config: a dict, "),
        (lambda: sppcls.compose("data=shapes"), r"^overrides='data=shapes': give a list of words"),
        (lambda: sppcls.compose(3), r"^overrides=3: give a list"),
        (lambda: sppcls.compose([3]), r"^overrides=\[3\]: give a list"),
        (lambda: sppcls.compare(3), r"^paths=3: give folders of runs"),
        (lambda: sppcls.compare([3]), r"^paths=\[3\]: give folders"),
        (lambda: sppcls.compare("nowhere"), r"^nowhere: no such folder"),
        (
            lambda: sppcls.load_classifier("."),
            r"^\.: a folder without best.ckpt or last.ckpt; name such a file",
        ),
        (lambda: sppcls.load_classifier(3), r"^3: no path; name a checkpoint file"),
        (lambda: sppcls.load_classifier(None), r"^None: no path"),
    ],
)
def test_arguments_of_another_kind(call: Callable[[], object], message: str) -> None:
    with pytest.raises(SppclsError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
