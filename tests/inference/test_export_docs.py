"""The lines of ``docs/howto/export.md`` for a user of the exported file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from saved_nets import save_net

import sppcls

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "export.md"


def test_they_run_as_they_stand_and_give_the_probabilities_of_predict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(import json\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    net = sppcls.load_classifier(save_net(tmp_path / "net.ckpt", levels=[3, 1]))
    sppcls.export(net, "model.onnx")
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((301, 222)).save("photo.jpg", quality=95)
    names: dict[str, Any] = {}
    exec(code, names)
    (found,) = sppcls.predict(net, ["photo.jpg"], top=4)
    given = dict(zip(names["about"]["classes"], names["probabilities"].tolist(), strict=True))
    assert given == pytest.approx(dict(zip(found.classes, found.probabilities, strict=True)), abs=1e-3)
    assert max(given.values()) - min(given.values()) > 0.01, "or any file would do"
