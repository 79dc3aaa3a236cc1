"""``sppcls detect export``: a detector as one ONNX file."""

from __future__ import annotations

from pathlib import Path

from sppcls.cli.common import Parser, check_checkpoint, positive
from sppcls.cli.detect_common import add_detector_options, load_on


def run(words: list[str]) -> int:
    """Export, and print what was written and how near it is to the detector."""
    args = _parser().parse_args(words)
    check_checkpoint(args.detector)
    from sppcls.inference.export.export import check_request

    out = args.out if args.out is not None else Path(args.detector).with_suffix(".onnx")
    check_request(out, "onnx", args.overwrite, args.opset)
    from sppcls.detection.export import export_detector

    detector = load_on(args.detector, args)
    report = export_detector(detector, out, opset=args.opset, overwrite=args.overwrite)
    print(
        f"{out}: {report['bytes'] / 1e6:.1f} MB, ONNX, opset {report['opset']}; takes photos with a shorter side of "
        f"{detector.regions.rules.scales[0]} and any number of windows; needs ONNX Runtime {report['lowest_onnxruntime']} or "
        f"newer (IR version {report['ir_version']})\n"
        f"{out}.parity.json: scores of {report['windows']:,} windows differ from the detector's by "
        f"{report['max_abs_difference']:.2g} at most (scores up to {report['max_abs_score']:.2g}), edges of boxes by "
        f"{report['max_box_difference']:.2g} pixels"
    )
    return 0


def _parser() -> Parser:
    parser = Parser(
        "detect export",
        "Write a detector of one scale as an ONNX file that runs without sppcls, and beside it FILE.parity.json, a comparison\n"
        "with the detector. The file holds the maps, the pooling of windows, the scores and the box regression. Windows,\n"
        "resizing and suppression stay outside; its metadata says how.",
    )
    parser.add_argument("detector", metavar="DET", help="detector.ckpt of `sppcls detect train`")
    parser.add_argument("--out", metavar="FILE", help="the file (DET with .onnx as its ending)")
    parser.add_argument("--opset", type=positive, metavar="N", help="ONNX opset, 18 to 21 (18)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    add_detector_options(parser)
    return parser
