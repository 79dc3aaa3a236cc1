"""From a network to a graph: what an exported file computes, traced for images of any size."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sppcls._util.reason import reason_of
from sppcls.data.sizes import Size
from sppcls.errors import ConfigError
from sppcls.nn import Ensemble, SpatialPyramidPooling2d, SPPClassifier
from sppcls.nn.ensemble import log_mean_softmax, logit_mean_sigmoid
from sppcls.nn.model_info import is_multi_label, model_info_of, probabilities
from sppcls.nn.pool.reference import pool_in_graph


class ExportedClassifier(nn.Module):
    """uint8 RGB images (N, 3, H, W) to ``{"logits", "probabilities"}``, float32 (N, classes).

    Args:
        net: on the CPU, in evaluation mode, with its model_info.
        gathered: pool every level as a gather and a reduction (:func:`~sppcls.nn.pool.reference.pool_level`), which ONNX can
            express. It has no adaptive pooling, and its MaxRoiPool, which comes close, divides in float32: from 14
            bins on some bins are a cell too long (level 14 on a map of 62), and runtimes lack it from opset 22 on.
    """

    def __init__(self, net: SPPClassifier, gathered: bool) -> None:
        super().__init__()
        self.backbone, self.pool, self.head, self.gathered = net.backbone, net.pool, net.head, gathered
        self.multi_label = is_multi_label(model_info_of(net))
        mean, std = (torch.tensor(model_info_of(net)[name]).view(3, 1, 1) for name in ("mean", "std"))
        # One multiplication and one addition, as in prepare_batch.
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", 1 / std / 255)
        self.register_buffer("shift", -mean / std)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        feature_map = self.backbone(images.float() * self.scale + self.shift)
        logits = self.head(self._pooled(feature_map))
        return {"logits": logits, "probabilities": probabilities(logits, self.multi_label)}

    def _pooled(self, feature_map: Tensor) -> Tensor:
        pool = self.pool
        if not isinstance(pool, SpatialPyramidPooling2d):
            return pool(feature_map)
        return pool_in_graph(feature_map, list(pool.levels), pool.mode, pool.bin_rule, self.gathered)


class ExportedEnsemble(nn.Module):
    """As :class:`ExportedClassifier`, of the networks of an ensemble: the mean of their probabilities."""

    def __init__(self, net: Ensemble, gathered: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(ExportedClassifier(member, gathered) for member in net.members)
        self.multi_label = net.multi_label
        self.orders = [reading.order for reading in net.readings]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = [member(images)["logits"] for member in self.members]
        mean = logit_mean_sigmoid if self.multi_label else log_mean_softmax
        logits = mean(
            [x if order is None else x[:, list(order)] for x, order in zip(found, self.orders, strict=True)]
        )
        return {"logits": logits, "probabilities": probabilities(logits, self.multi_label)}


def trace(net: SPPClassifier, size: Size, *, dynamic: bool, gathered: bool, format: str) -> ExportedProgram:
    """The graph of a network, traced at ``size``; the number of images is free, height and width if ``dynamic``.

    Raises:
        ConfigError: the backbone does something with its input's size that a graph cannot follow.
    """
    same = padding_by_size(net)
    if dynamic and same is not None:
        raise ConfigError(
            f"--format {format}: {net.backbone.name} pads by the size of its images ({same}), which cannot be exported "
            "for images of any size; give the one size with --size"
        )
    module = (
        ExportedEnsemble(net, gathered) if isinstance(net, Ensemble) else ExportedClassifier(net, gathered)
    )
    # DYNAMIC, not AUTO: where the tracer would settle on one size, it must fail.
    free = dict.fromkeys((0, 2, 3) if dynamic else (0,), Dim.DYNAMIC)
    images = torch.zeros(2, 3, *size, dtype=torch.uint8)
    try:
        return trace_module(module, {"images": images}, {"images": free})
    except Exception as error:  # torch.export raises nearly any type
        any_size, hint = ("for images of any size ", "; --size may help") if dynamic else ("", "")
        raise ConfigError(
            f"--format {format}: {net.backbone.name} cannot be exported {any_size}({reason(error)}){hint}"
        ) from error


def padding_by_size(net: SPPClassifier) -> str | None:
    """The layer of a network that pads by the size of its images, as some of timm do; None: there is none.

    Those sizes are a formula that grows with every layer: torch.export does not come to an end with it.
    """
    return next((type(part).__name__ for part in net.modules() if type(part).__name__.endswith("Same")), None)


def trace_module(
    module: nn.Module, inputs: dict[str, Tensor], free: dict[str, dict[int, Any]]
) -> ExportedProgram:
    """The graph of a module, whose ``free`` dimensions may have any length; what torch.export raises goes through.

    ``inputs`` are in the order of its parameters, as who loads the program calls it without names.
    """
    with quiet(), torch.no_grad():
        program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=free)
    program.example_inputs = None  # not part of the network
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def lowest_size(program: ExportedProgram) -> Size:
    """Smallest (height, width) that a traced program lets in; 0 where it has no bound of its own."""
    name = program.graph_signature.user_inputs[0]
    images = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    bounds = []
    for side in images.shape[2:]:
        free = isinstance(side, torch.SymInt) and side.node.expr in program.range_constraints
        lowest = int(program.range_constraints[side.node.expr].lower) if free else 0
        bounds.append(lowest if lowest > 2 else 0)  # 2 is what tracers assume of every side, and do not check
    return bounds[0], bounds[1]


def reason(error: BaseException) -> str:
    """One line of what went wrong at the bottom of an error: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return reason_of(error, 200, first_line=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to themselves what torch.export, sympy and onnxscript log, warn of and print about their own doings: many pages."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
