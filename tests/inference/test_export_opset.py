"""``--opset``: every one that is offered gives a valid file of the oldest format that may hold it, and runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from test_export import small_net

from sppcls import export
from sppcls.inference.export.onnx_file import LOWEST_RUNTIME

# Opset, IR version and ONNX Runtime, as onnx's Versioning.md and ONNX Runtime's compatibility table have them.
TABLE = [(18, 8, "1.14"), (19, 9, "1.15"), (20, 9, "1.17"), (21, 10, "1.18")]


# 18 is that of tests/inference/test_export.py; 19 differs from 20 by no format.
@pytest.mark.parametrize(
    ("opset", "ir_version", "runtime"),
    [pytest.param(*row, marks=[pytest.mark.long] if row[0] < 20 else []) for row in TABLE],
)
def test_a_file_is_as_old_as_its_opset_allows(
    opset: int, ir_version: int, runtime: str, tmp_path: Path
) -> None:
    net = small_net()
    report = export(net, tmp_path / "net.onnx", opset=opset)
    model = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]
    assert model.ir_version == ir_version
    kept = json.loads((tmp_path / "net.onnx.parity.json").read_text())
    for found in (report, kept):
        assert (found["opset"], found["ir_version"], found["lowest_onnxruntime"]) == (
            opset,
            ir_version,
            runtime,
        )
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 61, 83), np.uint8)
    logits = session.run(["logits"], {"images": images})[0]
    mean, std = (torch.tensor(net.model_info[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = net((torch.from_numpy(images) / 255 - mean) / std)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_the_table_is_what_is_offered() -> None:
    assert {opset: runtime for opset, _, runtime in TABLE} == LOWEST_RUNTIME
