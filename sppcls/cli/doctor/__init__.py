"""``sppcls doctor``: what could go wrong here, before it does."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator

from sppcls._version import __version__
from sppcls.cli.command import command
from sppcls.cli.common import RunWords
from sppcls.cli.doctor.diagnosis import Diagnosis, as_json, as_text, note
from sppcls.cli.doctor.imports import check_imports
from sppcls.cli.doctor.machine import check_machine, runs_folder
from sppcls.cli.doctor.packages import check_packages, malware

__all__: list[str] = []


@command
def run(given: RunWords, *, json: bool = False) -> int:
    """Look at what a run needs, without a network and without training: Python and its packages, whether they fit and can
    be imported, the processor, memory, GPU, disk and shared memory.

    examples:
      sppcls doctor
      sppcls doctor --data PHOTOS                         and at these photos

    With words of `sppcls train` also at that run: its config, its images (layout, counts, unreadable files, images in both
    training and validation) and its sizes. Nothing is written; the exit status is 1 if there is a problem.

    Args:
        json: print an object with a list of findings
    """
    findings = list(_findings(given))
    if json:
        about = {"sppcls": __version__, "python": platform.python_version(), "system": platform.platform()}
        print(as_json(findings, **about))
    else:
        if hasattr(sys.stdout, "reconfigure"):  # a terminal that lacks a character is no reason to stop
            sys.stdout.reconfigure(errors="backslashreplace")
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 110
        print(f"sppcls {__version__}, {platform.platform()}\n")
        print(as_text(findings, columns))
    return 1 if any(finding.level == "problem" for finding in findings) else 0


def _findings(given: RunWords) -> Iterator[Diagnosis]:
    yield from check_packages()
    unsafe = any(malware())
    imports, torch = check_imports(lightning=not unsafe)
    yield from imports
    yield from check_machine(torch)
    if not unsafe and all(finding.level == "ok" for finding in imports):
        from sppcls.cli.doctor.config import check_run

        yield from check_run(given)
    else:
        yield runs_folder("runs")
        if given.overrides:
            yield note(
                "config", "not looked at, as packages cannot be used", "mend the problems above, then again"
            )
