"""MkDocs hook: pages from outside docs/, notebooks as pages, and links that work on GitHub and in the site."""

from __future__ import annotations

import base64
import json
import posixpath
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

# What lies beside docs/ and is shown in the site under the same name.
OUTSIDE = ("results/**/*.md", "results/**/*.png", "results/**/*.csv", "*.md")

# Where links to what is no page lead: files of the repository to the page made from them.
INSTEAD = {"README.md": "README.md", "conf": "reference/config.md"}

_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/ and the notebooks."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if name != "README.md":
                files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for name, content in notebook_files(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Rewrite relative links, which are true in the repository, to those of the site."""
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # not in the page itself, as GitHub shows it
    parts = _FENCE.split(markdown)
    parts[::2] = [_LINK.sub(lambda m: _link(m, page.file, files), part) for part in parts[::2]]
    return "".join(parts)


def _link(match: re.Match[str], file: File, files: Files) -> str:
    mark, text, target = match.groups()
    link = urlsplit(target)
    if link.scheme or link.netloc or not link.path:
        return match[0]
    uri = file.src_uri
    # A page made from a notebook has no file of its own; it has the path of the notebook.
    repository = Path(file.abs_src_path) if file.abs_src_path else ROOT / uri
    try:
        found = (repository.parent / link.path).resolve().relative_to(ROOT).as_posix()
    except ValueError:
        return match[0]
    fragment = link.fragment
    if found == "README.md":
        goal, fragment = INSTEAD[found], ""
    elif found.split("/")[0] in INSTEAD:
        goal = INSTEAD[found.split("/")[0]]
    else:
        goal = re.sub(r"\.ipynb$", ".md", found).removeprefix("docs/")
    if files.get_file_from_path(goal) is None:
        # Source files have no page; the name is what the reader needs.
        return match[0] if found.startswith("docs/") else text
    way = posixpath.relpath(goal, posixpath.dirname(uri) or ".")
    return f"{mark}[{text}]({way}{'#' if fragment else ''}{fragment})"


def notebook_files(path: Path) -> dict[str, str | bytes]:
    """A notebook with its kept outputs as a Markdown page and its pictures, by file name."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    parts: list[str] = []
    result: dict[str, str | bytes] = {}
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{len(result)}.png"
                result[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![Output of the cell above]({name})")
            elif text := "".join(output.get("text", data.get("text/plain", ""))):
                parts.append(f"```text\n{text.rstrip()}\n```")
    return {f"{path.stem}.md": "\n\n".join(parts) + "\n", **result}
