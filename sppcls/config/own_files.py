"""Config files in YAML: those that are shipped, and those of a person's own, which may be written in any way."""

from __future__ import annotations

import codecs
import io
import os
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydrasReader
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sppcls._util.reason import reason_of
from sppcls.config.composition import note
from sppcls.errors import ConfigError
from sppcls.registry import NOT_IN_FILES

_WHOLE_CONFIG = "# @package _global_"


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file in UTF-8, with or without a byte order mark, its line ends as ``\\n``.

    Raises:
        ConfigError: it cannot be read, or is in another encoding.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ConfigError(f"{path}: is in UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}: line {line}: is not in UTF-8; save the file as UTF-8") from None
    return text.replace("\r\n", "\n")


class _OnceLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML would drop the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value}: the key is given twice", key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """What a YAML file holds.

    Raises:
        ConfigError: one line that names the file and, where YAML says it, the line.
    """
    text = read_text(path)
    try:
        return yaml.load(text, Loader=_OnceLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable(path, error, text) from None


def _load(path: str | os.PathLike[str], text: str) -> DictConfig:
    try:
        content = OmegaConf.load(io.StringIO(text))
    except (yaml.YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error, text) from None
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path}: is a list; a config has lines of the form key: value")
    return content


def _unreadable(path: str | os.PathLike[str], error: Exception, text: str) -> ConfigError:
    if isinstance(error, yaml.MarkedYAMLError):
        return ConfigError(f"{path}: {_what_is_wrong(error, text)}")
    return ConfigError(f"{path}: is no config in YAML ({reason_of(error, 200)})")


def _what_is_wrong(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark is not None else 0
    problem = reason_of(error.problem or error)
    lines = text.splitlines()
    if line < len(lines) and "\t" in lines[line][: len(lines[line]) - len(lines[line].lstrip())]:
        problem = "is indented by a tab; YAML takes blanks only"
    return f"line {line + 1}: {problem}"


# By its name Hydra knows it again where it registers its own anew, as in the processes of a launcher.
class FileConfigSource(HydrasReader):
    """Hydra's reader of files; it reads over a byte order mark, and each of its errors names the file."""

    def load_config(self, config_path: str) -> ConfigResult:
        """As Hydra's.

        Raises:
            ConfigError: the file cannot be used.
        """
        name = self._normalize_file_name(config_path)
        named = os.path.join(self.path, name)
        path = os.path.realpath(named)
        if not os.path.exists(path):
            raise ConfigLoadError(f"Config not found : {path}")
        note(named)  # which may become a link to another file
        text = read_text(path)
        try:
            header = self._get_header_dict(text[:512])
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None
        content = _load(path, text)
        package = str(header.get("package") or "")
        hydras = name.startswith("hydra/") or package.startswith("hydra")
        if (key := _chooses_code(content if hydras else content.get("hydra"))) is not None:
            raise ConfigError(
                f"{path}: hydra: {key}: {NOT_IN_FILES}; Hydra's own choices are made by typing hydra/..."
            )
        if name.startswith("experiment/") and header.get("package") is None:
            raise ConfigError(f"{path}: an experiment begins with the line {_WHOLE_CONFIG}")
        return ConfigResult(
            config=content, path=f"{self.scheme()}://{self.path}", provider=self.provider, header=header
        )


# By these Hydra, or Python's logging, would import or call something, or set what other programs obey.
_OF_HYDRA = ("_target_", "()", "class", "ext", "callbacks", "job_logging", "hydra_logging", "searchpath", "env_set",
             "env_copy")  # fmt: skip


def _chooses_code(section: Any) -> str | None:
    """The key by which a part of Hydra's own section would have Hydra or Python's logging call anything; or None."""
    waiting = [section]
    while waiting:
        part = OmegaConf.to_container(found) if OmegaConf.is_config(found := waiting.pop()) else found
        if isinstance(part, dict):
            for key in part:
                if key in _OF_HYDRA:
                    return str(key)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return None


def use_own_reader() -> None:
    """Have Hydra read files by the reader of this module."""
    Plugins.instance()  # registers Hydra's own first
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource
