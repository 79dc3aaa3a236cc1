"""Folds: every image is validated on once, each class has its share, and content alone decides."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_runs import TINY

import sppcls
from sppcls.cli.main import main
from sppcls.config.build import find_sources, load_sources
from sppcls.data import Splits
from sppcls.data.folds import into_folds
from sppcls.errors import ConfigError, DataError

COUNTS = {"daisy": 13, "roses": 10, "tulips": 5}


def photos(root: Path, counts: dict[str, int] = COUNTS) -> Path:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


def fold_of(root: Path, fold: int, folds: int = 5, *more: str):
    return find_sources(
        sppcls.compose(
            ["data=folder", f"data.root={root}", f"data.folds={folds}", f"data.fold={fold}", *more]
        )
    )


def content(source) -> set[bytes]:
    return {(source.root / source.name(i)).read_bytes() for i in range(len(source))}


def test_every_image_is_validated_on_once_and_each_class_has_its_share(tmp_path: Path) -> None:
    root = photos(tmp_path)
    seen: Counter[str] = Counter()
    for fold in range(5):
        splits = fold_of(root, fold)
        val = [splits.val.name(i) for i in range(len(splits.val))]
        train = [splits.train.name(i) for i in range(len(splits.train))]
        assert sorted(val + train) == sorted(f"{p.parent.name}/{p.name}" for p in root.rglob("*.png"))
        seen.update(val)
        for label, (name, count) in enumerate(COUNTS.items()):
            share = splits.val.targets.count(label)
            assert share in (count // 5, -(-count // 5))
            assert {v.split("/")[0] for v, t in zip(val, splits.val.targets, strict=True) if t == label} == {
                name
            }
        assert splits.found.startswith(f"fold {fold} of 0 to 4: {len(val)} images to validate on")
    assert set(seen.values()) == {1}
    assert len(seen) == 28


def test_names_layout_and_order_do_not_matter_content_does(tmp_path: Path) -> None:
    root = photos(tmp_path / "plain")
    folds = [content(fold_of(root, fold).val) for fold in range(5)]
    other = tmp_path / "other"
    for number, path in enumerate(sorted(root.rglob("*.png"), key=lambda path: path.read_bytes())):
        place = other / ("val" if number % 4 == 0 else "train") / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"photo{number}.png").write_bytes(path.read_bytes())
    assert [content(fold_of(other, fold).val) for fold in range(5)] == folds
    # With images of their own the folds are as good as any: the bytes decide, not the numbers of the files.
    assert len({frozenset(fold) for fold in folds}) == 5


def test_copies_share_a_fold(tmp_path: Path) -> None:
    root = photos(tmp_path)
    for path in list((root / "roses").iterdir()):
        (root / "roses" / f"copy-{path.name}").write_bytes(path.read_bytes())
    for fold in range(5):
        splits = fold_of(root, fold)
        assert not content(splits.train) & content(splits.val)


def test_a_test_split_stays_apart(tmp_path: Path) -> None:
    photos(tmp_path / "train")
    photos(tmp_path / "test", dict.fromkeys(COUNTS, 2))
    splits = fold_of(tmp_path, 1)
    assert splits.test is not None
    assert len(splits.test) == 6
    assert len(splits.train) + len(splits.val) == 28
    assert "6 test images kept for the end" in splits.found


def test_generated_images_and_datasets_have_folds_too(tmp_path: Path) -> None:
    config = sppcls.compose(["data.num_train=60", "data.num_val=20", "data.folds=4", "data.fold=3"])
    whole = find_sources(sppcls.compose(["data.num_train=60", "data.num_val=20"]))
    if min(Counter([*whole.train.targets, *whole.val.targets]).values()) < 4:
        pytest.skip("a class is too small")
    splits = load_sources(config)
    assert len(splits.train) + len(splits.val) == 80
    name = splits.val.name(0)
    role, _, rest = name.partition("/")
    source = {"train": whole.train, "val": whole.val}[role]
    index = next(i for i in range(len(source)) if source.name(i) == rest)
    assert torch.equal(splits.val.image(0), source.image(index))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.fold=1"], "data.fold=1: of how many? add data.folds=5"),
        (["data.folds=5"], "data.folds=5: which one is validated on? add data.fold=0"),
        (
            ["data.folds=5", "data.fold=5"],
            "data.fold=5: must be below data.folds=5; the first is 0; all: data.fold=0,1,2,3,4",
        ),
        (["data.folds=1", "data.fold=0"], "data.folds=1: must be >= 2"),
    ],
)
def test_impossible_folds_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        sppcls.compose(words)


def test_a_fold_without_a_class_is_named_before_work_begins(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", {"daisy": 12, "tulips": 3})
    with pytest.raises(
        DataError, match=r"data.folds=5: class 'tulips' has 3 different image\(s\), .* at most 3"
    ):
        fold_of(root, 0)
    words = [w for w in TINY if not w.startswith(("data.num", "data.batch"))]
    words += [
        "data=folder",
        f"data.root={root}",
        "data.folds=5",
        f"runs_dir={tmp_path / 'runs'}",
        "data.batch_size=4",
    ]
    with pytest.raises(DataError, match="so a fold would be without it"):
        sppcls.train(sppcls.compose([*words, "data.fold=0"]))
    assert not (tmp_path / "runs").exists()


def test_two_images_of_a_class_are_enough_for_two_folds(tmp_path: Path) -> None:
    root = photos(tmp_path, {"daisy": 4, "tulips": 2})
    assert [fold_of(root, fold, 2).val.targets.count(1) for fold in (0, 1)] == [1, 1]


def test_the_splits_given_are_left_as_they_are(tmp_path: Path) -> None:
    splits = find_sources(sppcls.compose(["data=folder", f"data.root={photos(tmp_path)}"]))
    before = [splits.train.name(i) for i in range(len(splits.train))]
    into_folds(splits, 5, 0)
    assert [splits.train.name(i) for i in range(len(splits.train))] == before


def test_a_run_of_a_fold_is_evaluated_on_its_own_images(tmp_path: Path, capsys) -> None:
    root = photos(tmp_path / "photos")
    words = [w for w in TINY if not w.startswith(("data.num", "data.batch"))]
    words += ["data=folder", f"data.root={root}", "data.folds=5", "data.fold=2", "data.batch_size=4",
              "trainer.max_epochs=1", f"runs_dir={tmp_path / 'runs'}"]  # fmt: skip
    outcome = sppcls.train(sppcls.compose(words))
    assert outcome["folder"].endswith("-seed0-fold2")
    assert main(["evaluate", f"{outcome['folder']}/last.ckpt", "--protocol", "center"]) == 0
    kept = next(Path(outcome["folder"]).glob("evaluation-last/*.npz"))
    names = np.load(kept)["path"].tolist()
    splits = fold_of(root, 2)
    assert names == [splits.val.name(i) for i in range(len(splits.val))]


def test_images_of_one_name_are_different_images_and_are_fetched_together() -> None:
    class Tars:
        """Two tar files whose keys begin at 0."""

        classes = ("ant", "bee")

        def __init__(self) -> None:
            self.targets, self.fetched = [0, 1] * 6, []

        def __len__(self) -> int:
            return 12

        def name(self, index: int) -> str:
            return f"{index % 4:06}"

        def image(self, index: int) -> torch.Tensor:
            return torch.full((3, 8, 8), index, dtype=torch.uint8)

        def fetch(self, indices: list[int]) -> None:
            self.fetched.append(list(indices))

    train, val = Tars(), Tars()
    folds = [into_folds(Splits(train, val), 4, fold) for fold in range(4)]  # type: ignore[arg-type]
    assert [Counter(splits.val.targets) for splits in folds] == [Counter({0: 3, 1: 3})] * 4
    part = folds[0].train
    part.fetch(range(len(part)))  # type: ignore[attr-defined]
    assert sorted(train.fetched[0] + val.fetched[0]) == sorted(
        int(part.image(i)[0, 0, 0]) for i in range(len(part))
    )
