"""The documentation as a site: it builds without a warning, is whole, and needs no other host."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import inspect
import io
import os
import pkgutil
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

import sppcls
import sppcls.nn
from sppcls.cli.detect import VERBS
from sppcls.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    "sppcls",
    *sorted(found.name for found in pkgutil.walk_packages(sppcls.__path__, "sppcls.") if found.ispkg),
]
# Modules, not packages.
SINGLE = {"sppcls.registry", "sppcls.errors"}
MODULES = [name for name in [*PACKAGES, *sorted(SINGLE)] if import_module(name).__all__]

# What a browser fetches without being asked.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}


class Parsed(HTMLParser):
    """Ids, links, what is fetched, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.code: set[str] = set()
        self._in_code = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids |= {values[name] or "" for name in ("id", "name") if name in values}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        # A canonical or next page is named by <link> but not fetched.
        if tag in FETCHED and not (tag == "link" and values.get("rel") in ("canonical", "next", "prev")):
            self.fetched.append(values.get(FETCHED[tag]) or "")
        self._in_code = tag == "code"

    def handle_data(self, data: str) -> None:
        if self._in_code:
            self.code.add(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Parsed]:
    """Every page that was made from a page of ours; reports of sppcls compare are copied as they are."""
    result = {}
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if "__md_scope" in text:
            result[path] = Parsed(text)
    return result


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Parsed]) -> None:
    assert len(pages) > 30
    for path, page in pages.items():
        assert page.fetched, path
        for address in page.fetched:
            assert not urlsplit(address).netloc, (path, address)
        # Scripts that the theme would fetch: for diagrams, and for its search in a page that is opened as a file.
        text = path.read_text(encoding="utf-8")
        assert 'class="mermaid"' not in text, path
        assert "iframe-worker" not in text, path
    for path in site.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import\s+)[\"']?([^\"')]+)", path.read_text(encoding="utf-8")):
            assert address.startswith(("data:", "#")) or not urlsplit(address).netloc, (path, address)


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Parsed]) -> None:
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file() or (target / "index.html").is_file(), (path, link)
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, (path, link)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str, site: Path, pages: dict[Path, Parsed]) -> None:
    public = {name: getattr(import_module(module), name) for name in import_module(module).__all__}
    assert sorted(public) == dir(import_module(module)) or module in SINGLE
    described = {
        name for name, thing in public.items() if inspect.isclass(thing) or inspect.isfunction(thing)
    }
    ids = {f"{module}.{name}" for name in described}
    found = [page for path, page in pages.items() if path.parent == site / "reference" and ids <= page.ids]
    assert found, f"no page has {sorted(ids)}"
    assert public.keys() - described <= found[0].code


def test_every_config_key_is_in_the_reference(site: Path, pages: dict[Path, Parsed]) -> None:
    config = dataclasses.asdict(sppcls.compose([]))
    bare = {"callbacks", "logger"}  # hold parts by any name
    nested = {
        f"{group}.{key}"
        for group, keys in config.items()
        if isinstance(keys, dict) and group not in bare
        for key in keys
    }
    keys = nested | {key for key, value in config.items() if not isinstance(value, dict)} | bare
    page = pages[site / "reference" / "config.html"]
    assert {"data.root", "optimizer.lr", "seed"} <= keys
    assert keys <= page.ids, keys - page.ids
    # Choices and prepared files, by the names that are typed.
    for path in (ROOT / "conf").glob("*/**/*.yaml"):
        name = path.relative_to(ROOT / "conf").with_suffix("").as_posix().partition("/")[2]
        assert name in page.code, path


def test_every_command_and_option_is_in_the_reference(site: Path, pages: dict[Path, Parsed]) -> None:
    path = site / "reference" / "commands.html"
    text = path.read_text(encoding="utf-8")
    for name in [*COMMANDS, *(f"detect {verb}" for verb in VERBS)]:
        anchor = name.replace(" ", "-")
        assert anchor in pages[path].ids
        section = text.partition(f'<h2 id="{anchor}"')[2].partition("<h2 ")[0]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*name.split(), "--help"])
        options = set(re.findall(r"^ +(?:-\w+.*, )?(--[a-z][a-z-]+)", printed.getvalue(), re.MULTILINE))
        # Commands without a parser show their help as it is.
        row = r"<td><code>[^<]*(?<![\w-]){}(?![\w-])" if "<table" in section else "{}"
        for option in options - {"--help"}:
            assert re.search(row.format(option), section), (name, option)


# --- examples in docstrings

# What their examples use; the others need a training, and README's are run elsewhere.
RUN = [
    sppcls.nn.Pyramid,
    sppcls.nn.SpatialPyramidPooling2d,
    sppcls.nn.spatial_pyramid_pool2d,
    sppcls.nn.SPPClassifier,
    sppcls.nn.build_classifier,
    sppcls.compose,
]


@pytest.mark.parametrize("thing", RUN, ids=lambda thing: thing.__name__)
def test_examples_of_docstrings_give_what_they_say(thing: object) -> None:
    names = {name: getattr(sppcls.nn, name) for name in sppcls.nn.__all__}
    examples = doctest.DocTestFinder(recurse=False).find(
        thing, globs=names | {"torch": torch, "compose": sppcls.compose}
    )
    assert sum(len(example.examples) for example in examples) > 0
    runner = doctest.DocTestRunner()
    for example in examples:
        assert runner.run(example).failed == 0
