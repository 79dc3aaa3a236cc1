"""Samples, batches and sources."""

from __future__ import annotations

import pickle

import numpy as np
import torch

from sppcls.data.dataset import ImageDataset, collate
from sppcls.data.files import ArraySource, FileSource
from sppcls.data.transforms import EvalTransform, TrainTransform
from sppcls.errors import ImageError


class Flawed(ArraySource):
    """Every third image cannot be read."""

    def image(self, index):
        if index % 3 == 0:
            raise ImageError(f"{self.name(index)}: damaged image")
        return super().image(index)


PIXELS = np.random.default_rng(0).integers(0, 256, (12, 40, 50, 3), np.uint8)
TARGETS = [index % 4 for index in range(12)]
GOOD = ArraySource(PIXELS, TARGETS, "abcd", "x")
FLAWED = Flawed(PIXELS, TARGETS, "abcd", "x")


def test_batches_carry_their_keys():
    dataset = ImageDataset(GOOD, TrainTransform((32, 32)), seed=0)
    batch = collate([dataset[key] for key in [(2, 5, 1, 7), (2, 5, 2, 4)]])
    assert batch.image.shape == (2, 3, 32, 32)
    assert batch.image.dtype == torch.uint8
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert (batch.index.tolist(), batch.target.tolist()) == ([7, 4], [3, 0])
    assert (batch.epoch, batch.step, batch.bad) == (2, 5, ())
    assert batch.lighting.shape == (2, 3)
    assert batch.lighting.dtype == torch.float32
    assert batch.lighting.all()


def test_augmentation_depends_on_seed_pass_and_index_only():
    dataset = ImageDataset(GOOD, TrainTransform((32, 32), crop="anywhere"), seed=0)

    def same(a, b):
        return torch.equal(a.image, b.image) and torch.equal(a.lighting, b.lighting)

    assert same(dataset[0, 0, 1, 5], dataset[9, 9, 1, 5])
    assert not same(dataset[0, 0, 1, 5], dataset[0, 0, 2, 5])
    assert not same(dataset[0, 0, 1, 5], ImageDataset(GOOD, dataset.transform, seed=1)[0, 0, 1, 5])
    assert same(dataset[0, 0, 0, 5], dataset[5])


def test_evaluation_takes_plain_numbers():
    dataset = ImageDataset(GOOD, EvalTransform((32, 32)), seed=0)
    batch = collate([dataset[index] for index in (3, 1)])
    assert (batch.epoch, batch.step, batch.index.tolist()) == (0, 0, [3, 1])
    assert not batch.lighting.any()


def test_unreadable_images_are_left_out_and_named():
    dataset = ImageDataset(FLAWED, EvalTransform((32, 32)), seed=0)
    batch = collate([dataset[index] for index in (1, 3, 5, 6)])
    assert batch.index.tolist() == [1, 5]
    assert batch.target.tolist() == [1, 1]
    assert len(batch.image) == len(batch.lighting) == 2
    assert batch.bad == ("x/00003: damaged image", "x/00006: damaged image")
    nothing = collate([dataset[index] for index in (0, 3)])
    assert (len(nothing.image), len(nothing.bad)) == (0, 2)


def test_a_million_names_take_little_room_and_travel(tmp_path):
    names = [f"class{index % 7}/image näme {index}.jpg" for index in range(1000)]
    source = pickle.loads(pickle.dumps(FileSource(tmp_path, names, [0] * 1000, ["a"])))
    assert [source.name(index) for index in range(1000)] == names
    assert len(pickle.dumps(source._names)) < 60_000
