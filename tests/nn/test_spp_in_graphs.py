"""The layer in anybody's network: traced, compiled by TorchScript, exported, and run at sizes new to the graph."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from brute_force import pool as pool_by_loops
from torch import Tensor, nn

from sppcls.nn import SpatialPyramidPooling2d, spatial_pyramid_pool2d

KINDS = [(mode, rule) for mode in ("max", "avg", "sum") for rule in ("adaptive", "sliding", "padded")]
SIZES = [(45, 45), (33, 33), (41, 70), (64, 37)]  # none is that of the tracing
Run = Callable[[Tensor], Tensor]


class Net(nn.Module):
    """Somebody's own network, with our layer in it."""

    def __init__(self, mode: str, rule: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.pool = SpatialPyramidPooling2d([3, (2, 1), 2, 1], mode, rule)
        self.fc = nn.Linear(4 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(torch.relu(self.conv(x))))


def traced(net: nn.Module, x: Tensor) -> Run:
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(net, x), file)
    file.seek(0)
    return torch.jit.load(file)


def scripted(net: nn.Module, x: Tensor) -> Run:
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(net), file)
    file.seek(0)
    return torch.jit.load(file)


def any_size() -> dict[str, Any]:
    dynamic = torch.export.Dim.DYNAMIC
    return {"x": {0: dynamic, 2: dynamic, 3: dynamic}}


def exported(net: nn.Module, x: Tensor) -> Run:
    return torch.export.export(net, (x,), dynamic_shapes=any_size()).module()


def in_onnxruntime(model: bytes) -> Run:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0])


def onnx_old(net: nn.Module, x: Tensor) -> Run:
    pytest.importorskip("onnx")
    file = io.BytesIO()
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(net, (x,), file, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=18)
    return in_onnxruntime(file.getvalue())


def onnx_new(net: nn.Module, x: Tensor) -> Run:
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(net, (x,), dynamo=True, dynamic_shapes=any_size(), verbose=False)
    assert program is not None
    return in_onnxruntime(program.model_proto.SerializeToString())


def onnx_of_exported(net: nn.Module, x: Tensor) -> Run:
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(torch.export.export(net, (x,), dynamic_shapes=any_size()), verbose=False)
    assert program is not None
    return in_onnxruntime(program.model_proto.SerializeToString())


def check(make: Callable[[nn.Module, Tensor], Run], mode: str, rule: str) -> None:
    net = Net(mode, rule).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporters' own
        run = make(net, torch.randn(2, 3, 52, 60))
        for number, size in enumerate(SIZES):
            x = torch.randn(1 + number % 2, 3, *size)
            maps = torch.relu(net.conv(x)).double().numpy()
            weight = np.zeros(4 * 16)
            pooled = np.stack([pool_by_loops(one, net.pool.levels, mode, rule, weight)[0] for one in maps])
            expected = net.fc(torch.from_numpy(pooled).float())
            torch.testing.assert_close(run(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mode", "rule"), KINDS)
@pytest.mark.parametrize("make", [traced, scripted, exported, onnx_old], ids=lambda make: make.__name__)
def test_any_size_goes_through_the_graph(make: Callable[..., Run], mode: str, rule: str) -> None:
    check(make, mode, rule)


@pytest.mark.parametrize(
    ("mode", "rule"),
    [
        ("max", "adaptive"),
        *(pytest.param(*kind, marks=pytest.mark.long) for kind in (("avg", "padded"), ("sum", "sliding"))),
    ],
)
def test_any_size_goes_through_the_new_onnx_exporter(mode: str, rule: str) -> None:
    check(onnx_new, mode, rule)


def test_a_program_of_torch_export_becomes_onnx() -> None:
    check(onnx_of_exported, "max", "adaptive")


def test_the_function_is_traced_too_and_says_nothing_of_sizes() -> None:
    def pool(x: Tensor) -> Tensor:
        return spatial_pyramid_pool2d(x, [2, 1])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", torch.jit.TracerWarning)
        run = torch.jit.trace(pool, torch.randn(3, 9, 11))
    x = torch.randn(3, 6, 5)
    expected = torch.cat([F.adaptive_max_pool2d(x, n).flatten() for n in (2, 1)])
    assert torch.equal(run(x), expected)


def test_a_scripted_network_trains(tmp_path: Path) -> None:
    net = Net("max", "adaptive")
    x = torch.randn(2, 3, 40, 36)
    net(x).sum().backward()
    expected = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated
        torch.jit.script(net)(x).sum().backward()
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
