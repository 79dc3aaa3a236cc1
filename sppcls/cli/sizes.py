"""``sppcls sizes``: the plan of a run."""

from __future__ import annotations

from sppcls.cli.common import Parser


def run(words: list[str]) -> int:
    """Print the plan."""
    parser = Parser(
        "sizes",
        "Print input size, batch, steps and learning rate of every epoch, and the bins of every level at each size,\n"
        "without training.",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for `sppcls train`")
    parser.add_argument("--config-dir", "-cd", help="folder with more configs")
    args = parser.parse_args(words)
    from sppcls.config.compose import compose

    config = compose(args.overrides, args.config_dir)
    # Imported here: it takes seconds, and a wrong config should be reported at once.
    from sppcls.engine.plan import plan

    print(plan(config))
    return 0
