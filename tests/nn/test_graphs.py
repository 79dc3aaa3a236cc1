"""Compiled, exported and deterministic forms of the network give what the plain one gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from brute_force import RULES
from torch import nn
from torch.export import Dim

from sppcls.nn import SpatialPyramidPooling2d, build_classifier
from sppcls.nn.pool import reference as pooling

pytestmark = pytest.mark.filterwarnings("ignore::sppcls.nn.LevelLargerThanMapWarning")


def network(**change: Any) -> nn.Module:
    settings: dict[str, Any] = {
        "backbone": {"name": "zf5", "width": 1 / 16, **change.pop("backbone", {})},
        "pyramid": {"levels": [6, 3, 2, 1], **change.pop("pyramid", {})},
        "head": {"name": "fc", "hidden": [12], **change.pop("head", {})},
    }
    torch.manual_seed(0)
    return build_classifier(**settings, num_classes=4, input_size=(224, 224)).eval()


class GraphCounter:
    """A backend that counts graphs and runs them as they are."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": {"norm": "lrn_within"}},
        {"backbone": {"norm": "lrn_across"}, "pyramid": {"mode": "avg"}},
        {"backbone": {"norm": "batch"}, "pyramid": {"bin_rule": "sliding"}},
        {"backbone": {"norm": "none"}, "pyramid": {"mode": "sum", "bin_rule": "padded"}},
        {"backbone": {"norm": "none"}, "pyramid": {"levels": None}, "head": {"name": "conv"}},
    ],
    ids=str,
)
def test_compiles_to_one_graph_per_size(change: dict[str, Any]) -> None:
    plain, compiled, counter = network(**change), network(**change), GraphCounter()
    compiled.compile(backend=counter, dynamic=False, fullgraph=True)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    for expected, side in enumerate((224, 180, 224, 180), start=1):
        images = torch.randn(2, 3, side, side)
        torch.testing.assert_close(compiled(images), plain(images), rtol=1e-5, atol=1e-6)
        assert counter.graphs == min(expected, 2)
    for net in (plain, compiled):
        net(images).square().sum().backward()
    for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_the_fixed_size_net_compiles() -> None:
    net, counter = network(pyramid={"levels": None}), GraphCounter()
    expected = net(torch.ones(1, 3, 224, 224))
    net.compile(backend=counter, dynamic=False, fullgraph=True)
    torch.testing.assert_close(net(torch.ones(1, 3, 224, 224)), expected)
    assert counter.graphs == 1


# Sizes never seen while exporting, with maps larger and smaller than the levels, square or not.
@pytest.mark.parametrize(
    ("mode", "rule"),
    [("max", "adaptive"), ("avg", "adaptive"), ("max", "sliding"), ("avg", "padded"), ("sum", "sliding")],
)
def test_pooling_exports_with_any_height_and_width(mode: str, rule: str) -> None:
    layer = SpatialPyramidPooling2d([6, (2, 3), 1], mode, rule)
    dims = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    exported = torch.export.export(layer, (torch.randn(2, 4, 13, 13),), dynamic_shapes=(dims,)).module()
    sizes = [(10, 10), (18, 7), (6, 40), (15, 16), *([] if rule == "sliding" else [(4, 3), (5, 20)])]
    for count, size in enumerate(sizes, start=2):
        x = torch.randn(count, 4, *size)
        torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("norm", [pytest.param("lrn_within", marks=pytest.mark.long), "lrn_across", "batch"])
def test_the_network_exports_with_any_height_and_width(norm: str) -> None:
    net = network(backbone={"norm": norm})
    dims = {0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO}
    exported = torch.export.export(net, (torch.randn(2, 3, 224, 224),), dynamic_shapes=(dims,)).module()
    for count, size in enumerate([(180, 180), (301, 237), (97, 500), (256, 341)], start=2):
        images = torch.randn(count, 3, *size)
        torch.testing.assert_close(exported(images), net(images), rtol=1e-5, atol=1e-6)


@pytest.fixture
def _deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
        ),
    ],
)
@pytest.mark.parametrize("mode", ["max", "avg", "sum"])
@pytest.mark.parametrize("rule", RULES)
def test_pooling_has_a_deterministic_backward(device: str, mode: str, rule: str) -> None:
    layer = SpatialPyramidPooling2d([6, 4, 3, 2, 1], mode, rule)
    x = torch.randn(4, 16, 13, 10).relu()  # ReLU gives ties
    grad = torch.randn(4, layer.output_length(16))
    gradients = []
    for _ in range(3):
        leaf = x.to(device).requires_grad_()
        layer(leaf).backward(grad.to(device))
        assert leaf.grad is not None
        gradients.append(leaf.grad.cpu())
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])
    if device == "cuda":
        distinct = torch.randperm(x.numel()).view(x.shape).float()
        on_cpu, on_cuda = (distinct.to(d).requires_grad_() for d in ("cpu", "cuda"))
        for leaf in (on_cpu, on_cuda):
            layer(leaf).backward(grad.to(leaf.device))
        torch.testing.assert_close(on_cuda.grad.cpu(), on_cpu.grad)  # type: ignore[union-attr]


@pytest.fixture
def _as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take the way of a deterministic CUDA backward; gives the names of torch's poolings that it still uses."""
    used: list[str] = []
    monkeypatch.setattr(pooling, "_needs_deterministic_backward", lambda _: True)
    for name in ("adaptive_max_pool2d", "adaptive_avg_pool2d"):
        torchs = getattr(torch.nn.functional, name)

        def noting(x: torch.Tensor, *args: Any, torchs: Any = torchs, name: str = name, **kwargs: Any) -> Any:
            if x.requires_grad:
                used.append(name)
            return torchs(x, *args, **kwargs)

        monkeypatch.setattr(pooling.F, name, noting)
    return used


# Max pooling over adaptive bins takes another way on a CPU: tests/nn/test_deterministic_max.py.
@pytest.mark.parametrize(("mode", "rule"), [("avg", "adaptive"), ("max", "sliding")])
@pytest.mark.parametrize("size", [(13, 10), (40, 7), (6, 6), (3, 4)])
def test_the_deterministic_form_is_the_same_function(
    mode: str, rule: str, size: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    levels = [level for level in (6, 4, 3, 2, 1) if rule == "adaptive" or level <= min(size)]
    layer = SpatialPyramidPooling2d(levels, mode, rule)
    x = torch.randperm(2 * 8 * size[0] * size[1]).view(2, 8, *size).double()
    grad = torch.randn(2, layer.output_length(8), dtype=torch.float64)
    outputs, gradients, used = [], [], None
    for _ in range(2):
        leaf = x.clone().requires_grad_()
        outputs.append(layer(leaf))
        outputs[-1].backward(grad)
        gradients.append(leaf.grad)
        if used is None:
            used = request.getfixturevalue("_as_on_cuda")
    assert used == []
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("_as_on_cuda")
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_the_deterministic_form_exports(mode: str) -> None:
    test_pooling_exports_with_any_height_and_width(mode, "adaptive")
