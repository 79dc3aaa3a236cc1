"""From run folders to an answer: groups, paired differences, tables and pictures. Needs neither torch nor Lightning."""

from sppcls.comparison.answers import Answers, Measure, read_answers
from sppcls.comparison.find import find_runs
from sppcls.comparison.grouping import compare, group_runs
from sppcls.comparison.groups import Comparison, Group, Pair, Refusal
from sppcls.comparison.read_run import read_run
from sppcls.comparison.runs import Run

__all__ = [
    "Answers",
    "Comparison",
    "Group",
    "Measure",
    "Pair",
    "Refusal",
    "Run",
    "compare",
    "find_runs",
    "group_runs",
    "read_answers",
    "read_run",
]


def __dir__() -> list[str]:
    return sorted(__all__)
