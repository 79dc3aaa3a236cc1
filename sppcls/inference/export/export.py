"""A trained network as one file that runs without sppcls: ONNX, or a program of ``torch.export``.

Both take images of any height, width and number, unless they are asked for one size. Nothing is written before the
file has given the logits of the network itself at sizes that neither training nor tracing has seen.

The graph takes what image libraries give, **uint8 RGB** ``images`` (N, 3, H, W), and normalises by itself. The usual
mistakes, a wrong range of values or normalising twice, are then errors of type instead of wrong classes, and the
values are those that the network was trained and measured on. It gives ``logits`` and ``probabilities`` (softmax; sigmoid where an image may have several labels),
float32 (N, classes). What is left to do outside is in the file's metadata: see :func:`describe`.

With onnxruntime and numpy alone::

    session = onnxruntime.InferenceSession("net.onnx")
    about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    images = numpy.asarray(photo).transpose(2, 0, 1)[None]     # photo: RGB, resized as about["preprocessing"] says
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})

With torch alone (images that lie channels last in memory, as photos do, are about twice as fast)::

    about = {"sppcls.json": ""}
    net = torch.export.load("net.pt2", extra_files=about).module()
    probabilities = net(torch.from_numpy(numpy.asarray(photo)).permute(2, 0, 1)[None])["probabilities"]
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sppcls._util.files import check_new_file
from sppcls._util.near import choose_from
from sppcls._version import __version__
from sppcls.data.geometry import default_shorter_side
from sppcls.data.pixel_range import trained_pixel_range
from sppcls.data.sizes import Size, as_size, size_label
from sppcls.data.stream import MAX_RESIZED_PIXELS
from sppcls.errors import ConfigError
from sppcls.inference.export.graph import lowest_size, quiet, reason, trace
from sppcls.inference.export.parity import TOLERANCE, Run, check_parity, compare, parity_batches
from sppcls.nn import Ensemble, SpatialPyramidPooling2d, SPPClassifier
from sppcls.nn.model_info import is_multi_label, model_info_of

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torch": ()}


def export(
    net: SPPClassifier,
    out: str | os.PathLike[str],
    *,
    format: str = "onnx",
    size: int | tuple[int, int] | None = None,
    opset: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a network as one file, and beside it ``OUT.parity.json``, the proof that it is the same network.

    The network is left as it is; the file holds it in evaluation mode, in float32 and for the CPU
    (``torch.export.passes.move_to_device_pass`` moves a loaded program to a GPU).

    Args:
        net: from :func:`sppcls.load_classifier`.
        out: the file; ends in ``.onnx`` or ``.pt2``.
        format: ``onnx`` (standard operators only) or ``torch``.
        size: side or (height, width) of the only images that the file shall take, for runtimes that need fixed sizes;
            None for any from ``net.min_input_size`` on. The number of images stays free. A network without a
            pyramid may have one size only, which it then gets without asking.
        opset: of ONNX, one of :data:`~sppcls.inference.export.onnx_file.LOWEST_RUNTIME`; None: the lowest.
        overwrite: replace existing files.

    Returns:
        What ``OUT.parity.json`` holds: ``file``, ``format``, ``opset``, ``ir_version``, ``lowest_onnxruntime`` (these
        None for ``torch``), ``bytes``, ``sha256`` and ``versions``;
        ``fixed_size`` (whether), ``min_size``, ``traced_at`` and ``trained_at``; ``sizes``, a list of what was compared
        (``batch``, ``height``, ``width``) with the largest logit and the largest differences; and over all of them
        ``max_abs_logit`` and ``max_abs_difference``, of which ``tolerance`` times the former is allowed.

    Raises:
        ConfigError: an unknown format, a file that may not be written, missing packages, a size that the network does
            not take, a network that the format cannot express, or a file that would give other logits (by more than
            :data:`TOLERANCE`). Then nothing is written, and existing files are as they were.

    Examples:
        >>> parity = sppcls.export(net, "model.onnx")
        >>> parity["max_abs_difference"], parity["tolerance"]
    """
    path, report_path = check_request(out, format, overwrite, opset)
    fixed = _fixed_size(net, size)
    reference = copy.deepcopy(net).to("cpu", torch.float32).to(memory_format=torch.contiguous_format).eval()
    trace_size = fixed or _trace_size(net)
    onnx = format == "onnx"
    with both_or_none(path, report_path) as (temporary, temporary_report):
        program = trace(reference, trace_size, dynamic=fixed is None, gathered=onnx, format=format)
        smallest = fixed or _smallest(net, program, format)
        about = describe(net, fixed, smallest)
        if onnx:
            from sppcls.inference.export import onnx_file

            about["opset"] = opset or onnx_file.OPSET
            onnx_file.write(program, temporary, about)
            run: Run = onnx_file.runner(temporary)
        else:
            run = _write_torch(program, temporary, about)
        del program
        sizes = compare(reference, run, parity_batches(net, fixed, smallest, trace_size))
        report = {
            **facts_of(path, temporary, format, about.get("opset")),
            "tolerance": TOLERANCE,
            "max_abs_difference": max(entry["max_abs_difference"] for entry in sizes),
            "max_abs_logit": max(entry["max_abs_logit"] for entry in sizes),
            "fixed_size": fixed is not None,
            "min_size": list(smallest),
            "traced_at": list(trace_size),
            "trained_at": model_info_of(net)["train_sizes"],
            "sizes": sizes,
        }
        check_parity(report)
        temporary_report.write_text(json.dumps(report, indent=1) + "\n")
    return report


@contextmanager
def both_or_none(path: Path, report_path: Path) -> Iterator[tuple[Path, Path]]:
    """Places for a file and its report, which become the two when the block ends without an error."""
    temporary, temporary_report = (p.with_name(f".{p.name}.{os.getpid()}.tmp") for p in (path, report_path))
    try:
        yield temporary, temporary_report
        os.replace(temporary, path)
        os.replace(temporary_report, report_path)
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
        temporary_report.unlink(missing_ok=True)


def facts_of(path: Path, written: Path, format: str, opset: int | None) -> dict[str, Any]:
    """What a report says of the file itself, which lies at ``written`` and will be ``path``."""
    onnx_facts: dict[str, Any] = {"ir_version": None, "lowest_onnxruntime": None}
    if opset is not None:
        from sppcls.inference.export.onnx_file import LOWEST_RUNTIME, ir_version

        onnx_facts = {"ir_version": ir_version(opset), "lowest_onnxruntime": LOWEST_RUNTIME[opset]}
    return {
        "file": path.name,
        "format": format,
        "opset": opset,
        **onnx_facts,
        "bytes": written.stat().st_size,
        "sha256": _sha256(written),
        "versions": _versions(format),
    }


def check_request(
    out: str | os.PathLike[str], format: str, overwrite: bool, opset: int | None = None
) -> tuple[Path, Path]:
    """The file and its parity file, after all checks that need no network.

    Raises:
        ConfigError: an unknown format or opset, packages that are missing, or files that may not be written.
    """
    if format not in SUFFIXES:
        raise ConfigError(f"--format {format}: {choose_from(format, SUFFIXES)}")
    missing = [name for name in _PACKAGES[format] if not _imports(name)]
    if missing:
        raise ConfigError(f'--format {format} needs {", ".join(missing)}: pip install "sppcls[onnx]"')
    if opset is not None:
        if format != "onnx":
            raise ConfigError(f"--opset {opset}: --format {format} has none; only onnx has")
        from sppcls.inference.export.onnx_file import LOWEST_RUNTIME

        if opset not in LOWEST_RUNTIME:
            raise ConfigError(f"--opset {opset}: choose from {', '.join(map(str, LOWEST_RUNTIME))}")
    path = check_new_file(out, overwrite)
    if path.suffix != SUFFIXES[format]:
        raise ConfigError(f"--out {path}: --format {format} writes files that end in {SUFFIXES[format]}")
    return path, check_new_file(path.with_name(f"{path.name}.parity.json"), overwrite)


def describe(net: SPPClassifier, fixed: Size | None, smallest: Size) -> dict[str, Any]:
    """What a user of the file must know, in plain values.

    In ONNX files each of these is a JSON string in ``metadata_props``; ``torch.export`` files have them all in the
    extra file ``sppcls.json``.

    ``sppcls_version``, ``network`` (in words), ``opset`` (ONNX only), ``classes`` (names by number), ``probabilities`` (how they follow from the logits), ``input`` and
    ``outputs`` (names, types, shapes), and ``preprocessing``: resize the upright RGB image, its aspect kept, so that
    its shorter side is ``shorter_side`` (bilinear, antialiased; larger where the crop needs it), then cut the central
    ``center_crop`` (height, width) if it is not null. ``min_size`` (height, width) is the smallest image that the file takes; with a fixed size it is the only one.
    ``pixel_range`` says how grey of more than 8 bits became 8 bits in training: ``full``, ``image`` (each its own range)
    or the values that are black and white. ``scale``, ``mean`` and ``std`` say what the graph itself does to the pixels: ``(pixel * scale - mean) / std``.
    """
    model_info = model_info_of(net)
    main = fixed or as_size(model_info["val_sizes"][0])
    height, width = fixed or ("height", "width")
    return {
        "sppcls_version": __version__,
        "network": _in_words(net),
        "classes": list(model_info["classes"]),
        "probabilities": "sigmoid of each class" if is_multi_label(model_info) else "softmax",
        "input": {
            "name": "images",
            "type": "uint8",
            "shape": ["batch", 3, height, width],
            "layout": "NCHW",
            "color": "RGB",
            "range": [0, 255],
        },
        "outputs": [
            {"name": name, "type": "float32", "shape": ["batch", len(model_info["classes"])]}
            for name in ("logits", "probabilities")
        ],
        "preprocessing": {
            "shorter_side": default_shorter_side(main),
            "center_crop": None if fixed is None else list(fixed),
            "interpolation": "bilinear, antialiased",
            "min_size": list(smallest),
            "pixel_range": trained_pixel_range(model_info),
            "scale": 1 / 255,
            "mean": list(model_info["mean"]),
            "std": list(model_info["std"]),
            "normalised_in_graph": True,
        },
    }


def _in_words(net: SPPClassifier) -> str:
    if isinstance(net, Ensemble):
        return f"mean of {len(net.members)} networks: {'; '.join(map(_in_words, net.members))}"
    pool = net.pool
    pooling = "no pyramid"
    if isinstance(pool, SpatialPyramidPooling2d):
        pooling = f"pyramid {pool.pyramid.label} ({pool.mode}, {pool.bin_rule} bins)"
    return f"{net.backbone.name}, {pooling}, {type(net.head).__name__}"


def _fixed_size(net: SPPClassifier, size: int | tuple[int, int] | None) -> Size | None:
    """The one size of the file, or None for any."""
    model_info_of(net)
    if size is None:
        return net.fixed_size
    fixed = as_size(size, "--size")
    if fixed[0] * fixed[1] > MAX_RESIZED_PIXELS:
        raise ConfigError(f"--size {size_label(fixed)}: more than the {MAX_RESIZED_PIXELS:,} pixels allowed")
    try:
        net.check_input_size(*fixed)
    except ValueError as error:
        problem = str(error).partition(": ")[2]  # without the size, which is said already
        raise ConfigError(f"--size {size_label(fixed)}: {problem}") from error
    return fixed


def _trace_size(net: SPPClassifier) -> Size:
    """Large enough that no side of any map is 0 or 1, which a tracer would take for constants; of an odd aspect."""
    smallest, stride = net.min_input_size, net.backbone.stride
    return smallest + 12 * stride + 1, smallest + 15 * stride + 3


def _smallest(net: SPPClassifier, program: torch.export.ExportedProgram, format: str) -> Size:
    """Smallest (height, width) that a file of any size takes; of a torch program a few networks need a larger one."""
    side = net.min_input_size
    if format == "onnx":
        return side, side
    # A tracer takes a map with one row for a special case and excludes it where memory layouts depend on it.
    height, width = lowest_size(program)
    return max(side, height), max(side, width)


def _write_torch(program: torch.export.ExportedProgram, path: Path, about: dict[str, Any]) -> Run:
    """Write ``program``, and return what the written file computes."""
    try:
        with quiet(), open(path, "wb") as file:
            torch.export.save(program, file, extra_files={"sppcls.json": json.dumps(about)})
        with quiet(), open(path, "rb") as stored:
            module = torch.export.load(stored).module()
    except OSError:
        raise
    except Exception as error:  # some graphs can be traced but not stored
        what = f"--format torch: {about['network']}: cannot be stored"
        raise ConfigError(f"{what} ({reason(error)})") from error

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        output = module(images)
        return output["logits"], output["probabilities"]

    return run


def _imports(name: str) -> bool:
    try:
        with quiet():
            import_module(name)
    except ImportError:
        return False
    return True


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions(format: str) -> dict[str, str]:
    found = {name: version(name) for name in ("torch", "numpy", *_PACKAGES[format])}
    return {"sppcls": __version__, "python": platform.python_version(), **found}
