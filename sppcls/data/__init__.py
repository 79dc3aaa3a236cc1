"""Images in, batches out: sizes, order, geometry, sources and loaders.

``ImageDataModule`` (the only part that needs Lightning) is in :mod:`sppcls.data.datamodule`.
"""

from sppcls.data.dataset import Batch, ImageDataset, collate
from sppcls.data.decode import MAX_PIXELS, decode, read_image
from sppcls.data.files import FileSource, JoinedSource, Source, Splits, check_headers, set_pixel_range
from sppcls.data.folder import image_files, labelled_images
from sppcls.data.pixel_range import PixelRange, as_pixel_range, trained_pixel_range
from sppcls.data.sampler import EvalSampler, KeyedBatchSampler
from sppcls.data.sizes import Size, SizeSchedule, as_size, batch_size_at, make_schedule, size_label
from sppcls.data.sources import build_sources
from sppcls.data.transforms import EvalTransform, TrainTransform, prepare_batch
from sppcls.registry import CROPS, SCHEDULES, SOURCES

__all__ = [
    "CROPS",
    "MAX_PIXELS",
    "SCHEDULES",
    "SOURCES",
    "Batch",
    "EvalSampler",
    "EvalTransform",
    "FileSource",
    "ImageDataset",
    "JoinedSource",
    "KeyedBatchSampler",
    "PixelRange",
    "Size",
    "SizeSchedule",
    "Source",
    "Splits",
    "TrainTransform",
    "as_pixel_range",
    "as_size",
    "batch_size_at",
    "build_sources",
    "check_headers",
    "collate",
    "decode",
    "image_files",
    "labelled_images",
    "make_schedule",
    "prepare_batch",
    "read_image",
    "set_pixel_range",
    "size_label",
    "trained_pixel_range",
]


def __dir__() -> list[str]:
    return sorted(__all__)
