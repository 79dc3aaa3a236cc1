"""What ``sppcls evaluate`` and ``sppcls ensemble`` share: which images are tested, and how."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sppcls._util.console import one_line
from sppcls.cli.common import Names
from sppcls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sppcls.config.schema import Config
    from sppcls.data import Source, Splits
    from sppcls.evaluation import Protocol
    from sppcls.nn import SPPClassifier


@dataclass(kw_only=True)
class Tests:
    """What is tested, and how.

    Args:
        protocol (NAMES): protocols, with commas between: center, full, full_flip, ten_view, feature_ten_view, multi_scale_96,
            multi_scale_96_crops, multi_scale_96_full2, a .yaml file, or several joined by + (those of the checkpoint's
            config; else center, and full where one network of any size is tested)
        data (PHOTOS): other images: a folder, or KEY=VALUE words such as data.labels=FILE (those trained on)
        split: images tested: val: those of the validation; test: those kept for the end; train: trained on; all: all of these
        sizes (LOW:HIGH:STEP): test at each of these sizes, or at those of a list such as 96,180,224 (the network's own)
        window_rule: which cells belong to a window of the feature map (the protocol's: appendix)
    """

    protocol: Names | None = None
    data: tuple[str, ...] = ()
    split: Literal["val", "test", "train", "all"] = "val"
    sizes: str | None = None
    window_rule: Literal["appendix", "report", "released"] | None = None

    def words(self) -> list[str]:
        """The config words of ``--data``; a place or a protocol that is not there is refused before torch is loaded.

        Raises:
            ConfigError, DataError: names the word.
        """
        from sppcls.config.compose import compose_unchecked, group_choices
        from sppcls.config.data_word import words_of_data
        from sppcls.config.early import check_data_root, check_protocols

        words = [word for place in self.data for word in words_of_data(place, group_choices()["data"])]
        # Only the place is another one: what else is known of the images stays that of the checkpoint.
        words = [
            "data.name=folder" if word == "data=folder" and word not in self.data else word for word in words
        ]
        given = compose_unchecked(words)
        # Without data=... it is that of the checkpoint. What can be downloaded need not be there.
        if given.data.root is not None and given.data.name in ("shapes", "folder", "imagenet"):
            check_data_root(str(given.data.root))
        check_protocols(self.protocol or [])
        return words

    def load_protocols(
        self, named: list[str], net: SPPClassifier, *members: SPPClassifier
    ) -> tuple[list[Protocol], list[int] | None]:
        """The protocols, those ``named`` if no other ones are asked for, and the sizes that are; None: the network's own.

        Raises:
            ConfigError: there is no such protocol, or a network cannot be tested so.
        """
        from sppcls.data import as_size
        from sppcls.evaluation import load_protocols
        from sppcls.evaluation.curve import parse_sizes

        protocols = load_protocols(self.protocol or named, self.window_rule)
        sizes = None if self.sizes is None else parse_sizes(self.sizes)
        for member in members or [net]:
            for protocol in protocols:
                for size in sizes or [net.model_info["val_sizes"][0]]:
                    protocol.at(as_size(size, "sizes")).check_fits(member)
        return protocols, sizes

    @property
    def split_label(self) -> str:
        """How results name the split; empty for the validation images, of which nobody has to be told."""
        return "" if self.split == "val" else self.split

    def images(
        self, config: Config, model_info: dict[str, Any], checkpoint: str
    ) -> tuple[Source, Splits | None]:
        """The images to test, and all splits where there are such; classes without an image are named on stderr.

        Raises:
            CheckpointError, ConfigError, DataError: there are no such images, or of unknown classes.
        """
        from sppcls.config.build import load_sources
        from sppcls.data import JoinedSource, labelled_images, set_pixel_range, trained_pixel_range
        from sppcls.data.classes import check_known, missing_line
        from sppcls.data.files import with_classes
        from sppcls.data.folder import holds_class_folders

        classes = model_info["classes"]
        bare = config.data.name == "folder" and holds_class_folders(str(config.data.root), classes)
        loaded = None
        if bare and self.split == "all":  # nothing is split, so a class may have one image
            source: Source = labelled_images(str(config.data.root), classes)
            set_pixel_range(trained_pixel_range(model_info), source)
        else:
            try:
                loaded = load_sources(config, classes)
            except DataError as error:
                raise DataError(f"{error}; --split all tests all images" if bare else str(error)) from None
            check_known(classes, loaded.train.classes, checkpoint)
            splits = by_split(loaded)
            if self.split not in (*splits, "all"):
                where = f"data.root={config.data.root}" if config.data.root else f"data={config.data.name}"
                raise ConfigError(
                    f"--split {self.split}: {where} has no test images; choose from val, train, all"
                )
            source = JoinedSource(splits) if self.split == "all" else splits[self.split]
        if line := missing_line(classes, with_classes(source, classes).targets):
            print(one_line(f"sppcls: note: {line}"), file=sys.stderr)
        return source, loaded


def tested_config(words: list[str], model_info: dict[str, Any], checkpoint: str) -> Config:
    """The config of a checkpoint with other ``words`` of data; an unreadable image is named at the end, and the rest tested."""
    from sppcls.config.compose import compose_unchecked
    from sppcls.config.restore import restore

    saved = {**model_info["config"], "ckpt_path": None}
    config = restore(saved, compose_unchecked(words), words, checkpoint)
    config.data.check = False
    return config


def by_split(loaded: Splits) -> dict[str, Source]:
    """The images by the names that ``--split`` has for them."""
    test = {} if loaded.test is None else {"test": loaded.test}
    return {"val": loaded.val, "train": loaded.train, **test}
