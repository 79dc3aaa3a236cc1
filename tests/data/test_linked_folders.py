"""Links that bring the same images into a data set twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sppcls.data.files import FileSource
from sppcls.data.folder import labelled_images
from sppcls.data.sources import build_sources
from sppcls.errors import DataError

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")

# Folders of images, links (from, to), and what is said. The data set is root/.
TWICE = {
    "two classes": (["root/cat", "root/dog"], ("root/kitty", "cat"), "root/cat and {0}/root/kitty .* count as two classes"),
    "two from elsewhere": (["root/dog", "birds"], ("root/owl", "../birds"), ("root/wren", "../birds"),
                           "root/owl and {0}/root/wren .* count as two classes"),
    "a chain of links": (["root/cat", "root/dog"], ("one", "root/cat"), ("root/kitty", "../one"), "cat and .*kitty .* two classes"),
    "a class in a class": (["root/cat", "root/dog"], ("root/cat/old", "../dog"), "root/cat/old and {0}/root/dog .* two classes"),
    "a part of a class": (["root/cat/old", "root/dog"], ("root/old", "cat/old"), "root/cat/old and {0}/root/old .* two classes"),
    "twice in a class": (["root/cat/a", "root/dog"], ("root/cat/b", "a"), "root/cat/a and {0}/root/cat/b .* count twice"),
    "two splits": (["root/train/cat", "root/train/dog", "root/val/dog"], ("root/val/cat", "../train/cat"),
                   "root/train/cat and {0}/root/val/cat .* count as two splits"),
    "deep in two splits": (["root/train/cat/a", "root/train/dog", "root/val/cat", "root/val/dog"],
                           ("root/val/cat/b", "../../train/cat/a"), "train/cat/a and .*val/cat/b .* count as two splits"),
    "its parent": (["root/cat", "root/dog"], ("root/all", "."), "{0}/root/all: is a link to a folder that it lies in, and no class"),
    "its parent's parent": (["root/train/cat", "root/train/dog", "root/val/cat"], ("root/train/data", "../../root"),
                            "root/train/data: is a link to a folder that it lies in"),
}  # fmt: skip


def build(place: Path, folders: list[str], *links: tuple[str, str]) -> Path:
    for folder in folders:
        (place / folder).mkdir(parents=True)
        for number in range(4):
            (place / folder / f"{number}.png").touch()  # nobody looks into it here
    for link, target in links:
        (place / link).symlink_to(target)
    return place / "root"


@pytest.mark.parametrize("name", TWICE)
def test_a_folder_that_counts_twice_is_refused(name: str, tmp_path: Path) -> None:
    folders, *links, said = TWICE[name]
    root = build(tmp_path, folders, *links)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=str(said).format(tmp_path)) as caught:
        build_sources("folder", root)
    assert "\n" not in str(caught.value)


def test_a_test_on_two_names_of_a_folder_is_refused(tmp_path: Path) -> None:
    root = build(tmp_path, ["root/cat", "root/dog"], ("root/kitty", "cat"))
    with pytest.raises(DataError, match="count as two classes"):
        labelled_images(root, ["cat", "dog", "kitty"])


def test_a_circle_below_a_class_is_told_and_counts_once(tmp_path: Path) -> None:
    root = build(tmp_path, ["root/cat", "root/dog"], ("root/cat/again", "."), ("root/dog/up", ".."))
    splits = build_sources("folder", root)
    assert len(splits.train) + len(splits.val) == 8
    told = "is a link to a folder that it lies in, and is not followed"
    assert splits.warnings == (f"{root}/cat/again {told}", f"{root}/dog/up {told}")


def test_links_to_folders_of_their_own_are_classes(tmp_path: Path) -> None:
    root = build(
        tmp_path,
        ["root/cat", "birds", "dogs"],
        ("root/owl", "../birds"),
        ("root/dog", str(tmp_path / "dogs")),
    )
    splits = build_sources("folder", root)
    assert isinstance(splits.train, FileSource)
    assert splits.train.classes == ["cat", "dog", "owl"]
    assert splits.warnings == ()
