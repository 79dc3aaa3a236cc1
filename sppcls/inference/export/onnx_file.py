"""The ONNX side of an export: translate, tidy, write, and run what was written. Needs the extra ``sppcls[onnx]``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import onnxscript
import torch
from torch import Tensor

from sppcls.errors import ConfigError
from sppcls.inference.export.graph import quiet, reason

LOWEST_RUNTIME = {18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18"}
"""The opsets that a file may have, and the first ONNX Runtime that reads each."""

OPSET = 18
"""The lowest that torch translates to, which the most runtimes know; newer ones have nothing that is needed here."""

_MAX_BYTES = (1 << 31) - (1 << 20)  # of one protocol buffer, less a margin for the graph


def write(
    program: torch.export.ExportedProgram,
    path: Path,
    about: dict[str, Any],
    translations: dict[Callable[..., Any], Callable[..., Any]] | None = None,
) -> None:
    """Write ``program`` to ``path``, with each entry of ``about`` as JSON in the file's metadata.

    ``about`` has the ``input``, or ``inputs`` if there are more of them, and the ``outputs``. ``translations`` are those
    of operators that torch does not translate itself.

    Raises:
        ConfigError: an operator that ONNX does not have, or weights beyond the 2 GiB of an ONNX file.
    """
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if size > _MAX_BYTES:
        raise ConfigError(
            f"--format onnx: {size / 2**30:.1f} GiB of weights, an ONNX file holds 2; use --format torch"
        )
    names = [output["name"] for output in about["outputs"]]
    try:
        with quiet():
            translated = torch.onnx.export(
                program,
                (),
                input_names=[entry["name"] for entry in _inputs(about)],
                output_names=names,
                opset_version=about["opset"],
                custom_translation_table=translations,
                verbose=False,
            )
            assert translated is not None
            model = translated.model_proto
            _tidy(model, about)
            # torch writes a newer format than the opset needs, which older runtimes refuse.
            model.ir_version = ir_version(about["opset"])
            onnx.checker.check_model(model, full_check=True)
    except ImportError as error:
        raise ConfigError(
            f"--format onnx: onnxscript {onnxscript.__version__} does not fit torch {torch.__version__} "
            f'({reason(error)}): pip install --upgrade "sppcls[onnx]"'
        ) from error
    except Exception as error:  # of torch.onnx, onnxscript or onnx
        raise ConfigError(
            f"--format onnx: {about['network']}: cannot be translated ({reason(error)})"
        ) from error
    path.write_bytes(model.SerializeToString())


def ir_version(opset: int) -> int:
    """The oldest version of the file format that holds an opset."""
    return int(onnx.helper.OP_SET_ID_VERSION_MAP["ai.onnx", opset])


def _inputs(about: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = about["inputs"] if "inputs" in about else [about["input"]]
    return found


def _tidy(model: onnx.ModelProto, about: dict[str, Any]) -> None:
    """Give the free dimensions names, add the metadata, and drop notes about this machine and the tracing."""
    graph = model.graph
    del graph.value_info[:]  # shapes in between, in the tracer's symbols
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    del graph.metadata_props[:]
    described = {entry["name"]: entry for entry in (*_inputs(about), *about["outputs"])}
    for value in (*graph.input, *graph.output):
        for dim, length in zip(value.type.tensor_type.shape.dim, described[value.name]["shape"], strict=True):
            if isinstance(length, str):
                dim.dim_param = length
            else:
                dim.dim_value = length
    graph.name = "sppcls"
    model.doc_string = f"sppcls {about['sppcls_version']}: {about['network']}"
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})


def runner(path: Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What the file computes in ONNX Runtime on the CPU: uint8 images to logits and probabilities."""
    session = open_session(path)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        logits, probabilities = session.run(["logits", "probabilities"], {"images": images.numpy()})
        return torch.from_numpy(logits), torch.from_numpy(probabilities)

    return run


def open_session(path: Path) -> Any:
    """The file in ONNX Runtime, on the CPU; raises ConfigError if that does not accept it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # its own types, which are not public
        raise ConfigError(
            f"--format onnx: ONNX Runtime does not accept the file ({reason(error)})"
        ) from error
