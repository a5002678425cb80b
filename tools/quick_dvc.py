"""DVC's command line, sooner done with its own files. Run: python tools/quick_dvc.py repro.

For each stage DVC reads params.yaml several times over, although no stage changes it: here a file that is still the
same is parsed once.

After each stage that ran DVC reads and writes the whole of dvc.lock, in pure Python so that comments and order survive
any edit. The lock has no comments, and its order is that of its mappings: libyaml writes the same bytes, several times
sooner, and what was written need not be read again. What is a number, a null or a plain string is decided by
ruamel.yaml's own rules, as in DVC itself; a lock with strings that the two would quote differently is left to DVC.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, TextIO

import dvc.dependency.param
import dvc.dvcfile
import yaml
from dvc.cli import main
from dvc.utils.serialize import _common, dumps_yaml
from dvc_objects.fs.local import LocalFileSystem
from ruamel.yaml.resolver import implicit_resolvers

VERSION = (1, 2)  # of YAML, which DVC's files are in; PyYAML by itself follows 1.1


class Unlike(Exception):
    """A string that libyaml and DVC might quote differently."""


class Reader(yaml.CSafeLoader):
    """libyaml's reader under YAML 1.2."""


class Writer(yaml.CSafeDumper):
    """libyaml's writer under YAML 1.2, in the form of DVC's: no aliases, a null is nothing at all."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write what stands twice twice."""
        return True


def _float(writer: Writer, number: float) -> yaml.Node:
    special = {float("inf"): ".inf", float("-inf"): "-.inf"}
    text = ".nan" if number != number else special.get(number) or repr(number).lower()
    return writer.represent_scalar("tag:yaml.org,2002:float", text)


def _string(writer: Writer, text: str) -> yaml.Node:
    if not text.isascii() or not text.isprintable() or "'" in text or '"' in text:
        raise Unlike
    return writer.represent_str(text)


for side in (Reader, Writer):
    side.yaml_implicit_resolvers = {}
    for versions, tag, pattern, first in implicit_resolvers:
        if VERSION in versions:
            side.add_implicit_resolver(tag, pattern, first)
Writer.add_representer(type(None), lambda writer, _: writer.represent_scalar("tag:yaml.org,2002:null", ""))
Writer.add_representer(float, _float)
Writer.add_representer(str, _string)
Writer.add_multi_representer(dict, lambda writer, data: writer.represent_dict(data.items()))
Writer.add_multi_representer(list, Writer.represent_list)


def read(text: Any, path: object) -> dict[str, Any]:
    """Return the mapping in `text`."""
    return yaml.load(text, Loader=Reader) or {}  # a SafeLoader by another name


def write(data: dict[str, Any], stream: TextIO) -> None:
    """Write `data` as DVC would."""
    try:
        text = yaml.dump(data, Dumper=Writer, sort_keys=False, default_flow_style=False)
    except Unlike:
        text = dumps_yaml(data)
    stream.write(text)


class Parsed:
    """Content of files by path, as long as they are what was parsed."""

    def __init__(self) -> None:
        """Know none."""
        self.known: dict[Path, tuple[tuple[int, ...], Any]] = {}

    def keep(self, path: str | os.PathLike, content: Any) -> None:
        """Remember that `path` holds `content`."""
        self.known[Path(path).resolve()] = (_stamp(path), content)

    def take(self, path: str | os.PathLike) -> Any:
        """Return the content of `path` and forget it; None where it is not known."""
        stamp, content = self.known.pop(Path(path).resolve(), ((), None))
        return content if Path(path).exists() and stamp == _stamp(path) else None


def _stamp(path: str | os.PathLike) -> tuple[int, ...]:
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


_parsed = Parsed()
_load_slowly, _modify_slowly = dvc.dependency.param.load_path, dvc.dvcfile.modify_yaml


def load_path(path: str, fs: Any, **options: Any) -> Any:
    """Return the content of a params file, the caller's own."""
    if not isinstance(fs, LocalFileSystem) or options or not Path(path).exists():
        return _load_slowly(path, fs, **options)
    content = _parsed.take(path)
    if content is None:
        content = _load_slowly(path, fs)
    _parsed.keep(path, content)
    return deepcopy(content)


@contextmanager
def modify(path: str | os.PathLike, fs: Any = None) -> Iterator[Any]:
    """Give the content of the file `path` to be changed; other files than dvc.lock go DVC's own way."""
    if Path(path).name != dvc.dvcfile.LOCK_FILE:
        with _modify_slowly(path, fs=fs) as data:
            yield data
        return
    known = _parsed.take(path)
    with _common._modify_data(path, read if known is None else lambda *_: known, write, fs=fs) as data:
        yield data
    _parsed.keep(path, data)


if __name__ == "__main__":
    dvc.dvcfile.modify_yaml = modify
    dvc.dependency.param.load_path = load_path
    sys.exit(main(sys.argv[1:]))
