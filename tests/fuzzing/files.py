"""Targets that are files: images, checkpoints, predictions, and what a run folder holds."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from comparison.written_runs import misses, save_answers, write_run, write_sweep
from hypothesis import strategies as st
from inference.saved_nets import save_net
from PIL import Image

from fuzzing.mutations import File, mutated, mutated_zip
from fuzzing.target import Target
from fuzzing.values import SCALARS, VALUES, misshapen
from fuzzing.worker import Worker


def image_files() -> list[bytes]:
    """Small files of each kind that Pillow writes, and of the variants that photos come in."""
    y, x = np.mgrid[0:37, 0:50]
    colour = Image.fromarray(np.stack([5 * x, 6 * y, 3 * (x + y)], -1).astype(np.uint8))
    clear = colour.convert("RGBA")
    clear.putalpha(Image.fromarray((5 * x).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray((900 * x + y).astype(np.uint16))
    frames = {"save_all": True, "append_images": [colour.rotate(90), colour.rotate(180)]}
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colour, "JPEG", {}),
        (colour, "JPEG", {"progressive": True, "exif": exif, "subsampling": 0}),
        (colour.convert("L"), "JPEG", {}),
        (colour.convert("CMYK"), "JPEG", {}),
        (colour, "MPO", frames),
        (colour, "PNG", {}),
        (clear, "PNG", {"exif": exif}),
        (colour.quantize(16), "PNG", {"transparency": 3}),
        (deep, "PNG", {}),
        (colour, "PNG", frames),
        (colour, "GIF", frames),
        (colour.quantize(16), "GIF", {"transparency": 3}),
        (colour, "WEBP", {}),
        (clear, "WEBP", {"lossless": True}),
        (colour, "WEBP", frames),
        (colour, "BMP", {}),
        (colour.quantize(16), "BMP", {}),
        (colour, "TIFF", {}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (colour, "TIFF", {"compression": "jpeg"}),
        (colour.convert("1"), "TIFF", {"compression": "group4"}),
        (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (clear, "ICO", {"sizes": [(32, 32)]}),
        *(
            (colour, kind, {})
            for kind in ("PPM", "JPEG2000", "TGA", "DDS", "PCX", "SGI", "DIB", "AVIF", "QOI")
        ),
    ]
    Image.init()
    found = []
    for picture, kind, options in wanted:
        if kind in Image.SAVE:
            file = io.BytesIO()
            picture.save(file, kind, **options)
            found.append(file.getvalue())
    return found


def images(worker: Worker) -> Target:
    """Damaged images through every way that reads one."""
    files = image_files()
    return Target(mutated(st.sampled_from(files)), lambda data: worker.ask("image", data))


def checkpoints(worker: Worker, folder: Path) -> Target:
    """Checkpoints with other bytes, other members of the zip file, and other values in the model_info."""
    path = save_net(folder / "good.ckpt", levels=[2, 1], hidden=(4,))
    good, whole = path.read_bytes(), torch.load(path, weights_only=True)

    def packed(model_info: Any) -> bytes:
        file = io.BytesIO()
        torch.save({**whole, "sppcls": model_info}, file)
        return File(file.getvalue())

    plain = json.loads(json.dumps(whole["sppcls"]))
    # Numbers stay small: a checkpoint may ask for a network of any size, and this is no test of the memory.
    small = st.one_of(SCALARS.filter(lambda v: not isinstance(v, int) or abs(v) < 1000), VALUES.filter(lambda v: isinstance(v, list | dict)))  # fmt: skip
    cards = misshapen(plain, small).map(packed)
    return Target(
        st.one_of(cards, mutated_zip(good), mutated(st.just(good))),
        lambda data: worker.ask("checkpoint", data),
    )


def predictions(worker: Worker, folder: Path) -> Target:
    """npz files with other bytes, other arrays in them, or arrays of other shapes and kinds."""
    save_answers(folder / "good.npz", misses(12, 3, 4))
    good = (folder / "good.npz").read_bytes()
    with np.load(folder / "good.npz") as file:
        arrays = {name: file[name] for name in file}
    shapes = st.sampled_from([(), (0,), (1,), (12,), (12, 1), (12, 0), (12, 3), (3, 12), (2, 2, 2)])
    kinds = st.sampled_from(["i1", "u8", "i4", "f4", "c8", "U3", "S3", "?", "M8[s]", "m8[s]", "i4,f4", "V3"])
    others = st.builds(lambda shape, kind: np.zeros(shape, dtype=kind), shapes, kinds)

    @st.composite
    def odd_arrays(draw: st.DrawFn) -> bytes:
        found = dict(arrays)
        for name in draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=2)):
            found[name] = draw(others)
        if draw(st.booleans()):
            found["label"] = np.full(12, draw(st.integers(-(2**62), 2**62)))
        packed = io.BytesIO()
        np.savez(packed, **found)  # type: ignore[arg-type]
        return File(packed.getvalue())

    return Target(
        st.one_of(odd_arrays(), mutated_zip(good), mutated(st.just(good))),
        lambda data: worker.ask("answers", data),
    )


def run_folders(worker: Worker, folder: Path, reports: bool) -> Target:
    """One of the text files of a sweep of four runs, with other bytes or other values.

    Args:
        worker: who reads them.
        folder: where the sweep goes.
        reports: whether some examples go through the whole command, pictures and all.
    """
    sweep = folder / "sweep"
    jobs = {
        f"{size}-seed{seed}": {"sizes": str(size), "seed": str(seed)} for size in (96, 72) for seed in (0, 1)
    }
    for number, (name, values) in enumerate(jobs.items()):
        write_run(
            sweep / name,
            seed=int(values["seed"]),
            right=misses(20, number),
            sizes__sizes=[int(values["sizes"])],
        )
    write_sweep(sweep, jobs)
    run = "96-seed0"
    texts = {name: (sweep / name).read_bytes() for name in
             (f"{run}/config.yaml", f"{run}/metrics.csv", f"{run}/result.json", "sweep.json")}  # fmt: skip
    config = yaml.safe_load(texts[f"{run}/config.yaml"])
    rows = [line.split(",") for line in texts[f"{run}/metrics.csv"].decode().split()]
    cells = st.one_of(
        st.sampled_from(
            ["", "nan", "inf", "-inf", "-1", "1e400", "0", "96x", "1_0", '"', "\x00", "1.5", "9" * 400]
        ),
        st.text(max_size=5),
    )
    as_bytes = {
        f"{run}/config.yaml": misshapen(config).map(lambda v: yaml.dump(v).encode()),
        f"{run}/metrics.csv": misshapen(rows, cells).map(
            lambda v: "\n".join(row if isinstance(row, str) else ",".join(row) for row in v).encode(
                "utf-8", "ignore"
            )
        ),
        f"{run}/result.json": misshapen(json.loads(texts[f"{run}/result.json"])).map(
            lambda v: json.dumps(v).encode()
        ),
        "sweep.json": misshapen(json.loads(texts["sweep.json"])).map(lambda v: json.dumps(v).encode()),
    }
    deep = st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"- " * 20_000, b""])

    @st.composite
    def one(draw: st.DrawFn) -> tuple[str, bytes, bool]:
        name = draw(st.sampled_from(sorted(texts)))
        data = draw(st.one_of(as_bytes[name], as_bytes[name], mutated(st.just(texts[name])), deep))
        return name, File(data), reports and draw(st.integers(0, 9)) == 0

    def check(example: tuple[str, bytes, bool]) -> str:
        name, data, report = example
        return worker.ask("run_file", data, name=name, sweep=str(sweep), report=report)

    return Target(one(), check)
