"""TensorBoard event files, written without torch: scalars, text, pictures, layouts and HParams."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.text import metadata as text
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from sppcls.runs.names import COMPARISON_EVENTS


class EventFile:
    """The events of one TensorBoard run, as a context manager.

    Args:
        folder: of the TensorBoard run; made if it is not there.
        number: place of the run among all. Where runs are not sorted by name, TensorBoard orders them, and gives them
            colours, by the time of their first event.
    """

    def __init__(self, folder: Path, number: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._now = time.time()
        self._records = RecordWriter(open(folder / COMPARISON_EVENTS, "wb"))  # noqa: SIM115 (closed by __exit__)
        self._write(Event(wall_time=float(1 + number), file_version="brain.Event:2"))

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._records.close()

    def scalar(self, tag: str, value: float, step: int, wall_time: float) -> None:
        """A point of a curve, at a time in seconds since 1970."""
        self._add(Summary.Value(tag=tag, simple_value=value), step, wall_time)

    def text(self, tag: str, markdown: str) -> None:
        """Text for the *Text* page, in Markdown."""
        self._string(tag, markdown.encode(), text.create_summary_metadata(None, None))

    def image(self, tag: str, png: bytes) -> None:
        """A picture for the *Images* page: a PNG file."""
        width, height = struct.unpack(">II", png[16:24])
        picture = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
        self._add(Summary.Value(tag=tag, image=picture))

    def layout(self, categories: Sequence[layout_pb2.Category]) -> None:
        """The charts of the *Custom Scalars* page."""
        layout = layout_pb2.Layout(category=categories)
        metadata = custom_scalar.create_summary_metadata()
        self._string(custom_scalar.CONFIG_SUMMARY_TAG, layout.SerializeToString(), metadata)

    def hparams(self, values: Mapping[str, str], name: str) -> None:
        """The row of this TensorBoard run on the *HParams* page; rows of one name would be united."""
        start = plugin_data_pb2.SessionStartInfo(group_name=name, start_time_secs=self._now)
        for key, value in values.items():
            start.hparams[key].string_value = value
        self._hparams(hparams.SESSION_START_INFO_TAG, session_start_info=start)

    def experiment(self, columns: Sequence[api_pb2.HParamInfo], metrics: Mapping[str, str]) -> None:
        """The columns of the *HParams* page for all runs: hyperparameters, and scalar tags with the names shown."""
        infos = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=shown)
            for tag, shown in metrics.items()
        ]
        experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=infos, time_created_secs=self._now)
        self._hparams(hparams.EXPERIMENT_TAG, experiment=experiment)

    def _string(self, tag: str, value: bytes, metadata: SummaryMetadata) -> None:
        self._add(Summary.Value(tag=tag, metadata=metadata, tensor=make_tensor_proto([value])))

    def _hparams(self, tag: str, **content: Any) -> None:
        metadata = hparams.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
        self._add(Summary.Value(tag=tag, metadata=metadata, tensor=hparams.NULL_TENSOR))

    def _add(self, value: Summary.Value, step: int = 0, wall_time: float | None = None) -> None:
        when = self._now if wall_time is None else wall_time
        self._write(Event(wall_time=when, step=step, summary=Summary(value=[value])))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
