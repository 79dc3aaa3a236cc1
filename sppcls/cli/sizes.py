"""``sppcls sizes``: the plan of a run."""

from __future__ import annotations

from sppcls.cli.common import Parser
from sppcls.config.compose import compose, group_choices
from sppcls.config.data_word import with_data_words


def run(words: list[str]) -> int:
    """Print the plan."""
    parser = Parser(
        "sizes",
        "Print input size, batch, steps and learning rate of every epoch, and the bins of every level at each size,\n"
        "without training.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for `sppcls train`")
    parser.add_argument("--data", metavar="PHOTOS", help="short for data=folder data.root=PHOTOS")
    parser.add_argument("--config-dir", "-cd", help="folder with more configs")
    args = parser.parse_args(with_data_words(words, group_choices()["data"]))

    config = compose(args.overrides, args.config_dir)
    # Imported here: it takes seconds, and a wrong config should be reported at once.
    from sppcls.engine.plan import plan

    print(plan(config))
    return 0
