"""``sppcls export``: a trained network as one ONNX or torch.export file."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Annotated, Literal

from sppcls.cli.command import command
from sppcls.cli.common import CheckpointFile, CheckpointFiles, Plugins, Positive, Processor


def _size(text: str) -> tuple[int, int]:
    """``224`` or ``256x384``, height first."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: give a side such as 224, or HEIGHTxWIDTH such as 256x384")
    return int(found[1]), int(found[2] or found[1])


@command
def run(
    checkpoint: CheckpointFile,
    *,
    with_: CheckpointFiles = (),
    format_: Literal["onnx", "torch"] = "onnx",
    out: Path | None = None,
    size: Annotated[tuple[int, int], _size] | None = None,
    opset: Positive | None = None,
    overwrite: bool = False,
    threads: Positive | None = None,
    plugins: Plugins | None = None,
) -> int:
    """Write a network as one file that runs without sppcls, and beside it FILE.parity.json, a comparison with the network
    at sizes that it has not been trained at.

    examples:
      sppcls export runs/shapes/NAME/best.ckpt            best.onnx beside it
      sppcls export CKPT --format torch --out net.pt2

    The file takes uint8 RGB images (N, 3, H, W), not normalised, of any height, width and number, and gives logits and
    probabilities. Its metadata says the rest: classes, how to resize, the smallest size.

    Args:
        checkpoint (CKPT): best.ckpt or last.ckpt of a run
        with_ (CKPT): more checkpoints: an ensemble, whose probabilities are the mean of the networks'
        format_: ONNX needs sppcls[onnx]; torch is torch.export, .pt2
        out (FILE): the file (CKPT with .onnx or .pt2 as its ending)
        size (224|HxW): one fixed size, for runtimes that need it (any size; without a pyramid the only one)
        opset (N): ONNX opset, 18 to 21 (18, which the oldest runtimes read: ONNX Runtime 1.14)
        overwrite: replace existing files
        threads: CPU threads (torch's choice)
        plugins (PACKAGE[,...]): packages with parts of your own that the checkpoint may name
    """
    from sppcls.data.sizes import size_label
    from sppcls.inference.export.export import SUFFIXES, check_request, export

    if out is None:
        at = "" if size is None else f"-{size_label(size)}"
        together = "-ensemble" if with_ else ""
        out = Path(checkpoint).with_name(f"{Path(checkpoint).stem}{together}{at}{SUFFIXES[format_]}")
    check_request(out, format_, overwrite, opset)
    net = Processor(device="cpu", threads=threads).load(checkpoint, *with_)
    report = export(net, out, format=format_, size=size, opset=opset, overwrite=overwrite)
    kind = f"ONNX, opset {report['opset']}" if format_ == "onnx" else "torch.export"
    smallest = "x".join(map(str, report["min_size"]))
    takes = f"images of {smallest} only" if report["fixed_size"] else f"images from {smallest} on"
    needs = ""
    if format_ == "onnx":
        needs = f"; needs ONNX Runtime {report['lowest_onnxruntime']} or newer (IR version {report['ir_version']})"
    print(
        f"{out}: {report['bytes'] / 1e6:.1f} MB, {kind}; {takes}, any number of them{needs}\n"
        f"{out}.parity.json: logits differ from the network's by {report['max_abs_difference']:.2g} at most "
        f"({len(report['sizes'])} comparisons, logits up to {report['max_abs_logit']:.2g})"
    )
    return 0
