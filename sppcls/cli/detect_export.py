"""``sppcls detect export``: a detector as one ONNX file."""

from __future__ import annotations

from pathlib import Path

from sppcls.cli.command import command
from sppcls.cli.common import Positive
from sppcls.cli.detect_common import DetectorFile, DetectorUse


@command
def run(
    detector: DetectorFile,
    *,
    out: Path | None = None,
    opset: Positive | None = None,
    overwrite: bool = False,
    use: DetectorUse,
) -> int:
    """Write a detector of one scale as an ONNX file that runs without sppcls, and beside it FILE.parity.json, a comparison
    with the detector.

    examples:
      sppcls detect export DET --out detector.onnx

    The file holds the maps, the pooling of windows, the scores and the box regression. Windows, resizing and suppression
    stay outside; its metadata says how.

    Args:
        detector (DET): detector.ckpt of `sppcls detect train`
        out (FILE): the file (DET with .onnx as its ending)
        opset (N): ONNX opset, 18 to 21 (18)
        overwrite: replace existing files
    """
    from sppcls.inference.export.export import check_request

    out = out or Path(detector).with_suffix(".onnx")
    check_request(out, "onnx", overwrite, opset)
    from sppcls.detection.export import export_detector

    loaded = use.load_detector(detector)
    report = export_detector(loaded, out, opset=opset, overwrite=overwrite)
    print(
        f"{out}: {report['bytes'] / 1e6:.1f} MB, ONNX, opset {report['opset']}; takes photos with a shorter side of "
        f"{loaded.regions.rules.scales[0]} and any number of windows; needs ONNX Runtime {report['lowest_onnxruntime']} or "
        f"newer (IR version {report['ir_version']})\n"
        f"{out}.parity.json: scores of {report['windows']:,} windows differ from the detector's by "
        f"{report['max_abs_difference']:.2g} at most (scores up to {report['max_abs_score']:.2g}), edges of boxes by "
        f"{report['max_box_difference']:.2g} pixels"
    )
    return 0
