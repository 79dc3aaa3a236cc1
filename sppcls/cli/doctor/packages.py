"""Installed versions against those that sppcls needs, read from metadata: no package is imported."""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sppcls.cli.doctor.diagnosis import Diagnosis, note, ok, problem

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# Uploads to PyPI by somebody who had stolen the project's key: they read credentials when imported.
_MALWARE = {"pytorch-lightning": ("2.6.2", "2.6.3"), "lightning": ("2.6.2", "2.6.3")}
_ADVISORY = "GHSA-w37p-236h-pfx3"

# What each extra is for, in the order of the report.
_EXTRAS = {
    "timm": "backbone=timm",
    "onnx": "sppcls export to ONNX",
    "transfer": "sppcls transfer",
    "detect": "sppcls detect",
    "search": "sppcls search",
    "joblib": "hydra/launcher=joblib",
    "slurm": "hydra/launcher=submitit_slurm",
    "ray": "hydra/launcher=ray",
}


def check_packages() -> Iterator[Diagnosis]:
    """Findings about Python, the packages that are needed, how they fit, and those that are optional."""
    try:
        from packaging.requirements import Requirement
    except Exception as error:
        yield problem(
            "packages", f"packaging cannot be imported ({error})", "pip install --force-reinstall packaging"
        )
        return
    project = _project()
    yield _python(project["requires-python"])
    needed = [Requirement(line) for line in project["dependencies"]]
    yield from _needed(needed)
    yield from malware()
    yield from _torchvision()
    yield from _hydra()
    yield _extras({name: [Requirement(r) for r in project["extras"][name]] for name in _EXTRAS})


def malware() -> Iterator[Diagnosis]:
    """A problem for every installed release that must not even be imported."""
    for name, releases in _MALWARE.items():
        version = _version(name)
        if version in releases:
            yield problem(
                name,
                f"{version} is malware ({_ADVISORY}); nothing that needs it was started",
                f"pip uninstall {name}; replace every key and password that was on this machine; "
                'then pip install "pytorch-lightning>=2.6.6"',
            )


def _project() -> dict[str, Any]:
    """What sppcls asks for: its pyproject.toml in a checkout, else the metadata of the installed package."""
    pyproject = Path(__file__).resolve().parents[3] / "pyproject.toml"
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        return {**project, "extras": project["optional-dependencies"]}
    from packaging.requirements import Requirement

    found = metadata.distribution("sppcls")
    lines = found.requires or []
    return {
        "requires-python": found.metadata["Requires-Python"],
        "dependencies": [line for line in lines if "extra ==" not in line],
        "extras": {
            extra: [line for line in lines if "extra ==" in line and _applies(Requirement(line), extra)]
            for extra in _EXTRAS
        },
    }


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is not None and requirement.marker.evaluate({"extra": extra})


def _python(wanted: str) -> Diagnosis:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return ok("python", version)
    return problem("python", f"{version}; sppcls needs {wanted}", "make the environment with another Python")


def _needed(requirements: Iterable[Requirement]) -> Iterator[Diagnosis]:
    good = []
    for requirement in requirements:
        reason = _unmet(requirement)
        if reason:
            yield problem(
                requirement.name, reason, f'pip install "{requirement.name}{requirement.specifier}"'
            )
        else:
            good.append(f"{requirement.name} {_version(requirement.name)}")
    if good:
        yield ok("packages", ", ".join(good))


def _unmet(requirement: Requirement) -> str:
    """Why a requirement is not met by what is installed; empty if it is."""
    version = _version(requirement.name)
    if version is None:
        return "not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{version} is installed, {requirement.specifier} is needed"
    return ""


def _torchvision() -> Iterator[Diagnosis]:
    """Whether torchvision was built for this torch, as its own metadata says."""
    from packaging.requirements import Requirement

    torch, vision = _version("torch"), _version("torchvision")
    if torch is None or vision is None:
        return
    for line in metadata.requires("torchvision") or []:
        requirement = Requirement(line)
        if requirement.name == "torch" and not requirement.specifier.contains(torch, prereleases=True):
            yield problem(
                "torchvision",
                f"{vision} was built for torch{requirement.specifier}, torch {torch} is installed",
                "install both in one command, so that they fit: pip install --upgrade torch torchvision",
            )


def _hydra() -> Iterator[Diagnosis]:
    from packaging.version import Version

    version = _version("hydra-core")
    if version is not None and Version(version) >= Version("1.4.dev0"):
        yield note(
            "hydra-core",
            f"{version} is newer than the 1.3 that sppcls was tested with",
            'if configs fail to compose: pip install "hydra-core<1.4"',
        )


def _extras(extras: dict[str, list[Requirement]]) -> Diagnosis:
    here, missing, old = [], [], []
    for extra, requirements in extras.items():
        unmet = {r.name: _unmet(r) for r in requirements if _unmet(r)}
        if not unmet:
            here.append(extra)
        elif all(reason == "not installed" for reason in unmet.values()):
            missing.append(f"{extra} ({_EXTRAS[extra]})")
        else:
            old += [f"{name} {reason}" for name, reason in unmet.items()]
    text = f"here: {', '.join(here) or 'none'}"
    if missing:
        text += f"; not here: {', '.join(missing)}"
    if old:
        return note("extras", f"{text}; {'; '.join(old)}", 'pip install --upgrade "sppcls[EXTRA]"')
    return ok("extras", text, 'if needed: pip install "sppcls[EXTRA]"' if missing else "")


def _version(name: str) -> str | None:
    """Installed version; None without one (also where the metadata is damaged)."""
    try:
        version: str | None = metadata.version(name)
    except (metadata.PackageNotFoundError, KeyError, OSError, ValueError):
        return None
    return version
