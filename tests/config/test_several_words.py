"""Of several words the one that is wrong is named, wherever it stands."""

from __future__ import annotations

import pytest

from sppcls import compose
from sppcls.errors import ConfigError

RIGHT = ["data.batch_size=8", "backbone=resnet18", "sizes.sizes=[96,72]", "seed=1"]
WRONG = {
    "optimizer.lr=abc": "optimizer.lr=abc: must be a number",
    "head.hidden={a:1}": "head.hidden={a:1}: must be a list of whole numbers",
    "pyramid=l632": "pyramid=l632: choose from ",
    "pyramid=[l632]": "pyramid=[l632]: choose from ",
    "pyramid=421": "pyramid=421: choose from ",
    "optimizer.rl=1": "optimizer.rl: unknown key",
    "log.every_n_steps=" + 5000 * "7": "log.every_n_steps=77777777777777777777...: too long a number",
    "trainer.max_epochs=1,2": "trainer.max_epochs=1,2: several values; add -m",
    "pyramid.levels=4,2": "pyramid.levels=4,2: several values; add -m to train with each of them, or make a list: pyramid.levels=[4,2]",
    "~nonsense": "~nonsense: a key cannot be left out",
    "pyramid.levels=[4": "pyramid.levels=[4: must be a list or null; write it without blanks",
}


@pytest.mark.parametrize("word", WRONG)
def test_the_wrong_word_is_named(word: str) -> None:
    for words in ([word, *RIGHT], [*RIGHT, word]):
        with pytest.raises(ConfigError) as caught:
            compose(words)
        assert str(caught.value).startswith(WRONG[word]), words
        assert "\n" not in str(caught.value)
