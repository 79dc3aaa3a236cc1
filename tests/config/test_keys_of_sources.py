"""Keys of ``data`` that shards and Hugging Face data sets do not take: a line that says what to type."""

from __future__ import annotations

import pytest

from sppcls import compose
from sppcls.errors import ConfigError

CACHE = ["data.cache=disk", "data.cache_dir=FAST", "data.cache_shorter_side=256"]


@pytest.mark.parametrize(
    ("kind", "words", "line"),
    [
        *(("shards", word, "`sppcls shards FOLDER OUT --resize-shorter-side 256` writes smaller") for word in CACHE),
        ("shards", "data.labels=a.csv", "`sppcls shards FOLDER OUT --labels FILE` reads it when shards are written"),
        ("shards", "data.multi_label=true", "`sppcls shards FOLDER OUT --multi-label true` reads it"),
        ("shards", "data.train_dir=train", "their index says the splits: leave it out"),
        ("shards", "data.download=true", "data.root may be an address, which is read from: leave it out"),
        *(("huggingface", word, "its rows are decoded each time, or type data=folder") for word in CACHE),
        ("huggingface", "data.labels=a.csv", "data.label=COLUMN names the labels"),
        ("huggingface", "data.val_dir=val", "data.val=SPLIT names the split"),
        ("huggingface", "data.download=true", "nothing is fetched: data.root is what save_to_disk has written"),
    ],
)  # fmt: skip
def test_what_a_source_does_not_take_is_one_line(kind: str, words: str, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([f"data={kind}", "data.root=PLACE", words])
    key = words.partition("=")[0]
    assert str(caught.value).startswith(f"{key}: data={kind} does not take it; ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_that_many_sources_lack_are_left_out() -> None:
    with pytest.raises(
        ConfigError, match="data.num_train: unknown key; .*; shards does not take it: leave it out"
    ):
        compose(["data=shards", "data.root=PLACE", "data.num_train=40"])


def test_keys_that_they_take_have_the_usual_checks() -> None:
    for kind in ("shards", "huggingface"):
        assert compose([f"data={kind}", "data.root=PLACE", "data.val_fraction=0.3"]).data.val_fraction == 0.3
        with pytest.raises(ConfigError, match="data.val_fraction=much: must be a number"):
            compose([f"data={kind}", "data.root=PLACE", "data.val_fraction=much"])
    with pytest.raises(
        ConfigError, match="data.multi_label=perhaps: choose from null, true, false, comma, space"
    ):
        compose(["data=huggingface", "data.root=PLACE", "data.multi_label=perhaps"])
    several = compose(
        ["data=huggingface", "data.root=PLACE", "data.label=[cat,dog]", "data.multi_label=comma"]
    )
    assert (list(several.data.label), several.data.multi_label) == (["cat", "dog"], "comma")
