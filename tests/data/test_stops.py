"""A stop by a signal that comes while an image is read stops: it is no damage of the image."""

from __future__ import annotations

import io
import signal
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from sppcls.data import decode
from sppcls.data.decode import check_header, grey_values, header_size
from sppcls.data.huggingface import HuggingFaceSource
from sppcls.data.own import DatasetSource
from sppcls.data.shards.storage import Storage
from sppcls.errors import Interrupted


def stop(*_: Any, **__: Any) -> NoReturn:
    raise Interrupted("stopped by SIGINT at once", signal.SIGINT)


class Stopping:
    """A set of images with the class numbers 0 and 1, whose items stop."""

    targets = (0, 1)
    __getitem__ = stop

    def __len__(self) -> int:
        return 2


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "plug_in", "method"),
    [
        ("PNG", PngImagePlugin.PngImageFile, "load"),
        ("PNG", PngImagePlugin.PngImageFile, "_open"),
        ("TIFF", TiffImagePlugin.TiffImageFile, "_open"),
    ],
)
def test_within_the_decoder(kind, plug_in, method, monkeypatch, tmp_path):
    data = encoded(kind)
    monkeypatch.setattr(plug_in, method, stop)
    with pytest.raises(Interrupted):
        decode(data)
    if method == "_open":
        path = tmp_path / "image"
        path.write_bytes(data)
        for look in (check_header, grey_values, header_size):
            with pytest.raises(Interrupted):
                look(path)


def test_within_a_dataset():
    with pytest.raises(Interrupted):
        DatasetSource(Stopping(), "train").image(0)  # type: ignore[arg-type]


def test_within_a_row():
    with pytest.raises(Interrupted):
        HuggingFaceSource(Stopping(), "image", "train", [0, 1], ["a", "b"]).image(0)


def test_within_an_address(monkeypatch):
    memory = pytest.importorskip("fsspec.implementations.memory")
    monkeypatch.setattr(memory.MemoryFileSystem, "cat_file", stop)
    with pytest.raises(Interrupted):
        Storage("memory://shards").read("index.json")
