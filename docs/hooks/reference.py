"""MkDocs hook: the reference of public names, config keys and commands, made from the code at build time."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import io
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints
from unittest.mock import patch

from docstrings import PAGES  # beside this file
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import sppcls
from sppcls.cli.detect import VERBS
from sppcls.cli.main import COMMANDS, main
from sppcls.errors import SppclsError

CONF = Path(__file__).resolve().parents[2] / "conf"
# Folders of conf/ without keys of their own.
HOW_TO_CHOOSE = {
    "experiment": "Whole runs; choose one with `experiment=CHOICE`.",
    "sweep": "Prepared lists of runs: `python train.py -m +sweep=CHOICE`.",
    "search": "Search spaces: `sppcls search +search=CHOICE n_trials=N`.",
    "protocol": "Test protocols: `evaluation.protocols=[CHOICE]` or `sppcls evaluate CKPT --protocol CHOICE`.",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of reference/."""
    pages = {name: module_page(module) for name, module in PAGES.items()}
    pages |= {"config": config_page(), "commands": commands_page()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


# --- public names


def module_page(module: str) -> str:
    """Every name of ``module.__all__``: constants, then functions, then classes."""
    package = import_module(module)
    kinds: dict[str, list[str]] = {"Functions": [], "Classes": [], "Constants and types": []}
    for name in package.__all__:
        thing = getattr(package, name)
        kind = "Classes" if inspect.isclass(thing) else "Functions" if inspect.isfunction(thing) else ""
        kinds[kind or "Constants and types"].append(name)
    doc = roles_to_code(inspect.getdoc(package) or "")
    lines = [f"# {module}", "", doc, ""]
    for kind in ("Functions", "Classes"):
        if kinds[kind]:
            lines += ["| " + kind.lower() + " | |", "|---|---|"]
            lines += [f"| [`{n}`][{module}.{n}] | {first_line(getattr(package, n))} |" for n in kinds[kind]]
            lines.append("")
    for kind, names in kinds.items():
        if not names:
            continue
        lines += [f"## {kind}", ""]
        if kind == "Constants and types":
            lines += ["| name | value |", "|---|---|"]
            lines += [f"| `{name}` | {constant(getattr(package, name))} |" for name in names]
            lines.append("")
        else:
            lines += [f"::: {module}.{name}\n" for name in names]
    return "\n".join(lines) + "\n"


def first_line(thing: Any) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
    return cell(roles_to_code(re.split(r"(?<=\.)\s", paragraph)[0]))


def roles_to_code(text: str) -> str:
    """Sphinx roles as code, for text that does not go through mkdocstrings."""
    return re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", text)


def constant(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value:,}`" if isinstance(value, int) else f"`{value}`"


# --- config keys


def config_page() -> str:
    """Every group with its choices and keys; type, range and meaning from the schema, defaults as composed."""
    default = sppcls.compose([])
    top = [spec for spec in dataclasses.fields(default) if not dataclasses.is_dataclass(value(default, spec))]
    groups = [spec for spec in dataclasses.fields(default) if spec not in top]
    only_choices = sorted({path.name for path in CONF.iterdir() if path.is_dir()} - {s.name for s in groups})
    lines = [
        "# Config keys",
        "",
        "Every key, made from the schema that checks them. The default is the value of `python train.py` without "
        "arguments; a choice of a group may set another. Set a key as `group.key=value` on the command line or in "
        "`sppcls.compose([...])`. [Config groups](../configs.md) has examples.",
        "",
        "## Run { #run }",
        "",
        *key_table(default, top, ""),
    ]
    for spec in groups:
        group = value(default, spec)
        lines += ["", f"## {spec.name} {{ #{spec.name} }}", "", inspect.getdoc(type(group)) or "", ""]
        lines += choice_table(spec.name, f"Choose with `{spec.name}=CHOICE`.")
        lines += key_table(group, dataclasses.fields(group), f"{spec.name}.")
    for name in only_choices:
        how = HOW_TO_CHOOSE.get(name, f"Choose with `{name}=CHOICE`.")
        lines += ["", f"## {name} {{ #{name} }}", "", *choice_table(name, how)]
    return "\n".join(lines) + "\n"


def value(config: Any, spec: dataclasses.Field[Any]) -> Any:
    return getattr(config, spec.name)


def key_table(config: Any, specs: Any, prefix: str) -> list[str]:
    types = get_type_hints(type(config))
    lines = ["| key | type | default | meaning | allowed |", "|---|---|---|---|---|"]
    for spec in specs:
        name = prefix + spec.name
        shown = show(value(config, spec))
        row = [
            f'<span id="{name}">`{name}`</span>',
            f"`{show_type(types[spec.name])}`",
            f"`{shown}`" if shown else "",
            cell(spec.metadata["help"]),
            cell(allowed(spec.metadata)),
        ]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def show_type(kind: Any) -> str:
    text = kind.__name__ if inspect.isclass(kind) and not getattr(kind, "__args__", ()) else str(kind)
    names = {"Any": "any", "None": "null", "NoneType": "null", "typing.": ""}
    for old, new in names.items():
        text = text.replace(old, new)
    return text.replace("list[any]", "list").replace(" | ", " or ")


def show(thing: Any) -> str:
    if thing is None or isinstance(thing, bool):
        return {None: "null", True: "true", False: "false"}[thing]
    return "[" + ", ".join(map(show, thing)) + "]" if isinstance(thing, list) else str(thing)


def allowed(limits: Any) -> str:
    """The range or the choices of a key, in words."""
    if limits["choices"]:
        return ", ".join(f"`{show(choice)}`" for choice in limits["choices"])
    low, high, above = limits["low"], limits["high"], limits["above"]
    words = [
        f"above {above}" if above is not None else "",
        f"from {low}" if low is not None else "",
        f"to {high}" if high is not None else "",
    ]
    return " ".join(filter(None, words))


def choice_table(group: str, how: str) -> list[str]:
    """Choices of a group with the head of their files, and the files."""
    folder = CONF / group
    paths = sorted(folder.rglob("*.yaml"))
    if not paths:
        return []
    names = {path: path.relative_to(folder).with_suffix("").as_posix() for path in paths}
    lines = [how, "", "| choice | what |", "|---|---|"]
    lines += [f"| `{name}` | {cell(head(path))} |" for path, name in names.items()]
    lines += ["", f'??? example "The files of conf/{group}/"', ""]
    for path, name in names.items():
        text = path.read_text(encoding="utf-8").rstrip()
        lines += [
            f'    ```yaml title="{group}/{name}.yaml"',
            *textwrap.indent(text, "    ").split("\n"),
            "    ```",
            "",
        ]
    return lines


def head(path: Path) -> str:
    """The first paragraph of the comment that a config begins with."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("# "):
            break
        words.append(line[2:])
    return " ".join(words)


# --- commands


def commands_page() -> str:
    """Every command with its arguments, from its parser; those without a parser show their help."""
    lines = [
        "# Commands",
        "",
        "Made from the argument parsers. Every command checks its arguments before it works; an error is one line "
        "on stderr and exit status 1, whatever is wrong; a run stopped by a signal ends with 128 + its number. "
        "`sppcls COMMAND --help` prints the same.",
        "",
        "| command | |",
        "|---|---|",
        *(f"| [`sppcls {name}`](#{name}) | {cell(text)} |" for name, text in COMMANDS.items()),
        "",
    ]
    verbs = [f"detect {verb}" for verb in VERBS]
    for name in [one for command in COMMANDS for one in (command, *(verbs if command == "detect" else []))]:
        lines += [f"## sppcls {name} {{ #{name.replace(' ', '-')} }}", ""]
        printed, parser = help_of(name)
        if parser is None:
            # The groups and keys that the help of `train` goes on with have a page of their own.
            printed, _, rest = printed.partition("\ngroups (")
            lines += ["```text", printed.rstrip(), "```", ""]
            lines += ["Groups, choices and keys: [config keys](config.md).", ""] if rest else []
            continue
        lines += [
            *description(parser.description or ""),
            "",
            "```text",
            parser.format_usage().rstrip(),
            "```",
            "",
        ]
        lines += ["| argument | default | meaning |", "|---|---|---|"]
        lines += [argument_row(parser, action) for action in parser._actions if action.dest != "help"]
        lines += ["", *epilog(parser.epilog or ""), ""]
    return "\n".join(lines)


def help_of(command: str) -> tuple[str, argparse.ArgumentParser | None]:
    """What ``--help`` prints, and the parser that does, if there is one."""
    parsers: list[argparse.ArgumentParser] = []

    # All ways to parse come through this method.
    def keep(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        parsers.append(parser)
        raise SystemExit

    text = io.StringIO()
    with (
        patch.object(argparse.ArgumentParser, "parse_known_args", keep),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit, SppclsError),
    ):
        main([*command.split(), "--help"])
    return text.getvalue(), parsers[0] if parsers else None


def description(text: str) -> Iterator[str]:
    """Paragraphs of a description; those with a layout of their own as they are."""
    for paragraph in text.strip().split("\n\n"):
        if re.search(r"^ |\S {3,}\S", paragraph, re.MULTILINE):
            yield from ("", "```text", paragraph, "```")
        else:
            yield from ("", re.sub(r"([<>])", r"\\\1", paragraph))


def epilog(text: str) -> list[str]:
    return ["```text", text.strip("\n"), "```"] if text.strip() else []


def argument_row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        wanted = (
            "|".join(map(str, action.choices)) if action.choices else action.metavar or action.dest.upper()
        )
        names += f" {wanted}"
    default = action.default
    shown = "" if default in (None, argparse.SUPPRESS, False, []) else f"`{default}`"
    text = (action.help or "") % {**vars(action), "prog": parser.prog}
    return "| " + " | ".join([f"`{names}`", shown, cell(text)]) + " |"


def cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return re.sub(r"([|<>*])", r"\\\1", " ".join(text.split()))
