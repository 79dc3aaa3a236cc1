"""What the pages say is so: links, commands, choices, keys, figures, and the lines that the program prints.

In a ``bash`` block commands must exist, with their groups, choices and keys. In a ``console`` block the command after
``$`` is run, and what follows is its whole output; ``...`` stands for anything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
import yaml
from PIL import Image

from sppcls import compose, train
from sppcls.cli.detect import VERBS
from sppcls.cli.main import COMMANDS, main, run_safely
from sppcls.config.command_line import read_command_line
from sppcls.config.compose import conf_dir, group_choices
from sppcls.config.data_word import with_data_words, words_of_data
from sppcls.config.schema import Config
from sppcls.data.shapes import ShapesSource
from sppcls.errors import SppclsError
from sppcls.evaluation import load_protocols, protocol_names
from sppcls.evaluation.curve import parse_sizes
from sppcls.evaluation.mapping import WINDOW_RULES
from sppcls.evaluation.protocols import PLACES, load_protocol
from sppcls.nn import Pyramid
from sppcls.sweeps.overrides import named_files
from sppcls.sweeps.plan import job_configs, plan_sweep

ROOT = Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, ROOT / "results" / "README.md"]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *kinds: str) -> list[str]:
    """Fenced blocks of these kinds."""
    return [m[3] for m in _FENCE.finditer(page.read_text(encoding="utf-8")) if m[2] in kinds]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def section(page: str, title: str) -> str:
    """Text below a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Cells of the table rows in a text, without heads and rulers."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {i for i, line in enumerate(lines[1:]) if re.fullmatch(r"[|: -]+-[|: -]+", line)}
    rulers = {i + 1 for i in heads}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for i, line in enumerate(lines)
        if i not in heads | rulers
    ]


def words_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# --- links


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub makes of the headings."""
    seen: dict[str, int] = {}
    result = set()
    for title in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = seen.get(slug, 0)
        seen[slug] = number + 1
        result.add(f"{slug}-{number}" if number else slug)
    return result


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    for link in links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if parts.fragment:
            assert parts.fragment in anchors(target), link
    # An address that is no link would not be seen above.
    assert not re.search(r"(?<!\]\()https?://", text)


def test_every_page_and_notebook_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for path in [*DOCS, *(ROOT / "notebooks").glob("*.ipynb")]:
        address = os.path.relpath(path, ROOT / "docs")
        assert address == "README.md" or f"({address})" in index, path


# --- commands


def command_lines(page: Path) -> list[list[str]]:
    """Every ``python train.py ...`` and ``sppcls ...`` of blocks and of inline code, as words."""
    text = "\n".join(blocks(page, "bash", "")).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]
    kept = [line for line in lines if re.match(r"(python train\.py|sppcls)( |$)", line)]
    return [shlex.split(line, comments=True) for line in kept if "..." not in line]


@functools.cache
def check_train_words(given: tuple[str, ...]) -> None:
    """The words compose to a config that passes its checks; with ``-m``, every run's."""
    words = [word for word in given if word not in ("--help", "-h", "all")]
    line = read_command_line(words)
    if line.config_dir is not None:
        return
    if "-m" in words:
        job_configs(plan_sweep(line.overrides))
    else:
        compose(line.overrides)


def check_words(words: list[str]) -> None:
    """Groups, choices and keys exist; whether the values are possible is not asked."""
    groups, keys = group_choices(), group_schemas()
    for word in words:
        name, _, value = word.partition("=")
        group, _, key = name.rpartition(".")
        if name.startswith(("hydra.", "hydra/")):  # Hydra's own and its launchers'
            continue
        if name in ("n_trials", "pruner", "sampler.seed"):  # of a search
            continue
        if name in groups:
            assert value in groups[name], word
        else:
            assert key in keys.get(group or "run", []), word


def check_search_words(words: list[str]) -> None:
    if "--config-dir" in words:
        return
    values = dict(word.split("=", 1) for word in with_data_words(words, group_choices()["data"]))
    assert values.pop("+search", "small") in named_files("search")
    assert int(values.pop("n_trials", 1)) >= 1
    groups = group_choices()
    for key, value in values.items():
        for one in value.split(",") if key in groups else [value]:
            check_words([f"{key}={one}"])


def check_command(name: str, words: list[str]) -> None:
    """The command exists and takes these arguments; it then stops, as the files named do not exist."""
    assert name in COMMANDS, name
    if not words or "--help" in words:
        return
    if name in ("train", "sizes", "doctor"):
        check_train_words(tuple(words))
        return
    if name == "lr":  # would begin, too
        check_words([word for word in words if "=" in word])
        return
    if name == "detect" and len(words) == 1:  # a verb that a sentence names
        assert words[0] in VERBS, words
        return
    if name == "search":  # would begin: generated images need no files
        check_search_words(words)
        return
    with pytest.raises(SppclsError) as caught:
        import_module(f"sppcls.cli.{name}").run(words)
    assert not re.match(rf"sppcls {name}( \w+)?:", str(caught.value)), caught.value
    values = dict(itertools.pairwise(words))
    if "--protocol" in values and name == "evaluate":
        load_protocols([p for p in values["--protocol"].split(",") if not p.endswith(".yaml")])
    if "--sizes" in values:
        parse_sizes(values["--sizes"])
    if "--data" in values and name == "evaluate":
        check_words(words_of_data(values["--data"], group_choices()["data"]))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in command_lines(page):
        if words[:2] == ["python", "train.py"]:
            check_train_words(tuple(words[2:]))
        elif len(words) > 1 and words[1].islower():
            check_command(words[1], words[2:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_words_in_the_text_are_words_of_the_program(page: Path) -> None:
    for code in re.findall(r"`([^`]+)`", prose(page)):
        words = code.split()
        if not all(re.fullmatch(r"[a-z_.]+=[^\s=]+", word) for word in words) or "mine" in code:
            continue
        if not any(re.search(r"=NAME$|\.\.\.|\*", word) for word in words):
            check_words(words)


# --- what the program prints


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the console blocks name."""
    place = tmp_path_factory.mktemp("docs")

    def photos(folder: str, count: int) -> None:
        (place / folder).mkdir(parents=True)
        source = ShapesSource("train", 20)
        for i in range(count):
            image = Image.fromarray(source.image(i % 20).permute(1, 2, 0).numpy())
            image.resize((60, 48)).save(place / folder / f"{i:02d}.jpg")

    for name, classes in {
        "PHOTOS": ("daisy", "rose"),
        "OTHERS": ("daisy", "tulip"),
        "DAMAGED": ("daisy", "rose"),
    }.items():
        for split, count in (("train", 20), ("val", 4)):
            for kind in classes:
                photos(f"{name}/{split}/{kind}", count)
    photos("UNSORTED", 3)
    photos("ONECLASS/daisy", 3)
    for folder in ("train/daisy", "train/rose", "val/daisy", "val/lily"):
        photos(f"OTHERVAL/{folder}", 2)
    (place / "DAMAGED/train/rose/broken.jpg").write_text("no image")
    (place / "TEXT").write_text("no checkpoint")
    (place / "TEXT.npz").write_text("a file")
    photo = place / "PHOTOS/val/rose/00.jpg"
    (place / "photo.jpg").write_bytes(photo.read_bytes())
    (place / "cut.jpg").write_bytes(photo.read_bytes()[:900])
    words = [
        "data=folder", f"data.root={place / 'PHOTOS'}", "data.batch_size=8", "data.workers=0",
        "backbone.width=0.0625", "head=linear", "trainer=cpu", "trainer.max_epochs=1", "trainer.threads=1",
        "log.images=false", f"runs_dir={place / 'RUNS'}",
    ]  # fmt: skip
    for name, more in {"CKPT": ["run_name=RUN"], "NOSPP": ["pyramid=none", "sizes=single_224"]}.items():
        run = train(compose([*words, *more]))
        (place / name).write_bytes(Path(run["last_checkpoint"]).read_bytes())
    return place


# For commands that end in "...": a small training, of the sizes of the default one.
_SMALL = ["data.num_train=64", "data.num_val=20", "data.batch_size=16", "data.workers=0", "backbone.width=0.0625",
          "trainer=cpu", "trainer.threads=1", "log.images=false"]  # fmt: skip


def output_of(words: list[str]) -> str:
    """What a command prints, on stdout and stderr together."""
    if words[-1] == "...":
        words = [*words[:-1], *_SMALL]
    with io.StringIO() as text, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        if words[0] == "sppcls":
            main(words[1:])
        else:
            assert words[:2] == ["python", "train.py"]
            run_safely(lambda: import_module("sppcls.cli.train").run(words[2:]))
        return text.getvalue()


def as_pattern(expected: str) -> str:
    lines = []
    for line in expected.splitlines():
        if line == "...":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*".join(map(re.escape, line.rstrip().split("..."))) + " *\n")
    return "".join(lines)


def consoles() -> Iterator[tuple[str, str]]:
    for page in DOCS:
        for block in blocks(page, "console"):
            assert block.startswith("$ "), block
            command, _, expected = block[2:].partition("\n")
            yield command, expected


@pytest.mark.parametrize(("command", "expected"), list(consoles()))
def test_the_program_prints_what_is_quoted(
    command: str, expected: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch.cuda.is_available() and re.search("gpu|cuda|16-mixed", command):
        pytest.skip("is about a machine without a GPU")
    monkeypatch.chdir(place)
    printed = output_of(shlex.split(command))
    assert re.fullmatch(as_pattern(expected), printed), printed


def test_the_files_of_a_run_are_those_in_the_tutorial(place: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    named = [word for row in rows(section(text, "4. Read the results")) for word in words_in(row[0])]
    files = {path for path in (place / "RUNS/folder/RUN").iterdir() if not path.name.startswith(".")}
    named.remove("pictures/")  # this run draws none, to be fast
    assert {path for name in named for path in path_matches(place / "RUNS/folder/RUN", name)} == files


def path_matches(folder: Path, name: str) -> list[Path]:
    found = sorted(folder.glob(name.rstrip("/")))
    assert found, name
    return found


# --- configs.md


CONFIGS = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")


def group_schemas() -> dict[str, list[str]]:
    """Keys by group of the schema; those that belong to no group as ``run``."""
    schemas: dict[str, list[str]] = {"run": []}
    for spec in dataclasses.fields(Config):
        if spec.default_factory is dataclasses.MISSING:
            schemas["run"].append(spec.name)
        else:
            schemas[spec.name] = [f.name for f in dataclasses.fields(spec.default_factory)]  # type: ignore[arg-type]
    return schemas


@pytest.mark.parametrize("group", sorted(group_choices()))
def test_the_choices_of_a_group_are_those_that_there_are(group: str) -> None:
    table = rows(section(CONFIGS, group))
    assert sorted(word for row in table for word in words_in(row[0])) == sorted(group_choices()[group])
    defaults = yaml.safe_load((conf_dir() / "train.yaml").read_text())["defaults"]
    default = {k: v for entry in defaults if isinstance(entry, dict) for k, v in entry.items()}[group]
    marked = [words_in(row[0]) for row in table if "default)" in " ".join(row)]
    assert marked == ([default if isinstance(default, list) else [default]] if default else [])


@pytest.mark.parametrize(("group", "keys"), sorted(group_schemas().items()))
def test_every_key_is_explained(group: str, keys: list[str]) -> None:
    text = section(CONFIGS, group)
    for key in keys:
        assert re.search(rf"`([a-z]+\.)?{key}[`=]", text), f"{group}.{key}"


def test_the_bins_of_the_pyramids() -> None:
    for row in rows(section(CONFIGS, "pyramid")):
        choice = conf_dir() / "pyramid" / f"{words_in(row[0])[0]}.yaml"
        levels = yaml.safe_load(choice.read_text())["levels"]
        assert row[2] == (str(Pyramid(levels).bins) if levels else "")


# --- the other pages


def test_protocols_are_those_that_there_are() -> None:
    text = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
    table = rows(section(text, "The ones that come with sppcls"))
    assert {words_in(row[0])[0]: int(row[1]) for row in table} == {
        name: load_protocol(name).views_of_a_photo() for name in protocol_names()
    }
    assert {words_in(row[0])[0] for row in rows(section(text, "Windows on feature maps"))} == set(
        WINDOW_RULES
    )
    keys = {words_in(row[0])[0]: words_in(row[1]) for row in rows(section(text, "A protocol of your own"))}
    assert set(keys["positions"]) == {*PLACES, "full"}


def test_an_example_of_a_protocol_can_be_read(tmp_path: Path) -> None:
    (example,) = blocks(ROOT / "docs" / "protocols.md", "yaml")
    (tmp_path / "mine.yaml").write_text(example)
    # center: 1; two scales, two positions, mirrored or not: 8; three positions: 3; the whole image: 1.
    assert load_protocol(str(tmp_path / "mine.yaml")).views_of_a_photo() == 1 + 8 + 3 + 1


def test_the_papers_figures_are_those_in_the_configs() -> None:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    table = [row for row in rows(section(text, "Its figures")) if len(row) == 5]
    networks = [words_in(cell)[0] for cell in table.pop()[1:]]
    assert len(table) == 3
    for row in table:
        (ending,) = words_in(row[0])
        for network, figures in zip(networks, row[1:], strict=True):
            head = (conf_dir() / f"experiment/paper/{network}{ending}.yaml").read_text()
            assert f"error {figures} % with ten views" in head, (network, ending)


def test_the_papers_two_rules_differ_where_the_page_says() -> None:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    pyramid = Pyramid([6, 3, 2, 1])
    table = rows(section(text, "Contradictions"))
    assert len(table) == 5
    for row in table:
        cells = int(row[0].split()[0])
        map_size = (cells, cells)
        agrees, seen = pyramid.agrees(map_size), pyramid.coverage(map_size, "sliding")
        assert row[1:] == [
            "same" if same else f"differ: {100 * share:.0f} % of the cells seen"
            for same, share in zip(agrees, seen, strict=True)
        ]


def test_the_sweeps_are_those_that_there_are() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    assert {words_in(row[0])[0] for row in rows(section(text, "8. A sweep"))} == set(named_files("sweep"))
