"""``sppcls export``: a trained network as one ONNX or torch.export file."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from sppcls.cli.common import Parser, add_checkpoint, add_with, check_checkpoint, load_together, positive


def run(words: list[str]) -> int:
    """Export, and print what was written and how near it is to the network."""
    args = _parser().parse_args(words)
    checkpoints = [args.checkpoint, *args.others]
    for path in checkpoints:
        check_checkpoint(path)
    from sppcls.data.sizes import size_label
    from sppcls.inference.export.export import SUFFIXES, check_request, export

    out = args.out
    if out is None:
        size = "" if args.size is None else f"-{size_label(args.size)}"
        checkpoint = Path(args.checkpoint)
        together = "-ensemble" if args.others else ""
        out = checkpoint.with_name(f"{checkpoint.stem}{together}{size}{SUFFIXES[args.format]}")
    check_request(out, args.format, args.overwrite, args.opset)
    net = load_together(checkpoints, "cpu", args.threads)
    report = export(net, out, format=args.format, size=args.size, opset=args.opset, overwrite=args.overwrite)
    kind = f"ONNX, opset {report['opset']}" if args.format == "onnx" else "torch.export"
    smallest = "x".join(map(str, report["min_size"]))
    takes = f"images of {smallest} only" if report["fixed_size"] else f"images from {smallest} on"
    needs = ""
    if args.format == "onnx":
        needs = f"; needs ONNX Runtime {report['lowest_onnxruntime']} or newer (IR version {report['ir_version']})"
    print(
        f"{out}: {report['bytes'] / 1e6:.1f} MB, {kind}; {takes}, any number of them{needs}\n"
        f"{out}.parity.json: logits differ from the network's by {report['max_abs_difference']:.2g} at most "
        f"({len(report['sizes'])} comparisons, logits up to {report['max_abs_logit']:.2g})"
    )
    return 0


def _parser() -> Parser:
    parser = Parser(
        "export",
        "Write a network as one file that runs without sppcls, and beside it FILE.parity.json, a comparison with the\n"
        "network at sizes that it has not been trained at. The file takes uint8 RGB images (N, 3, H, W), not normalised,\n"
        "of any height, width and number, and gives logits and probabilities. Its metadata says the rest: classes,\n"
        "how to resize, the smallest size.",
    )
    add_checkpoint(parser)
    add_with(parser)
    parser.add_argument(
        "--format",
        choices=("onnx", "torch"),
        default="onnx",
        help="onnx (the default; needs sppcls[onnx]) or torch (torch.export, .pt2)",
    )
    parser.add_argument("--out", metavar="FILE", help="the file (CKPT with .onnx or .pt2 as its ending)")
    parser.add_argument(
        "--size",
        type=_size,
        metavar="224|HxW",
        help="one fixed size, for runtimes that need it (any size; without a pyramid the only one)",
    )
    parser.add_argument(
        "--opset",
        type=positive,
        metavar="N",
        help="ONNX opset, 18 to 21 (18, which the oldest runtimes read: ONNX Runtime 1.14)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument("--threads", type=positive, help="CPU threads (torch's choice)")
    return parser


def _size(text: str) -> tuple[int, int]:
    """``224`` or ``256x384``, height first."""
    found = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: give a side such as 224, or HEIGHTxWIDTH such as 256x384")
    return int(found[1]), int(found[2] or found[1])
