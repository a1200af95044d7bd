"""Opens a BEIR collection that lies in a zip file, as it is published, or in a folder.

Of an archive it takes only the files of a collection, and writes them under names of its own.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from flywheel.files.beir import BeirError

_FILES = re.compile(r"(corpus|queries)\.jsonl(\.gz)?|qrels/[\w.-]+\.tsv(\.gz)?")
_HIDDEN = ("__MACOSX", ".")


@contextmanager
def collection(path: Path) -> Iterator[Path]:
    """The folder of a collection: `path` itself, or for a zip file a temporary one that is gone afterwards.

    The collection may stand at the archive's top or in a folder of it.

    Raises:
        BeirError: no such folder, no zip file, a damaged or encrypted one, none or several collections in it, or more
            than the disk holds.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise BeirError(f"{path} is no folder and no zip file")
    with tempfile.TemporaryDirectory(prefix="flywheel-beir-") as name:
        _unpack(path, Path(name))
        yield Path(name)


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [entry for entry in archive.infolist() if not _hidden(entry.filename)]
            top = _top(path, members)
            wanted = {entry: file for entry in members if (file := _file(entry.filename, top))}
            size, free = sum(entry.file_size for entry in wanted), shutil.disk_usage(folder).free
            if size > free:
                raise BeirError(f"{path}: {size:,} bytes unpacked, and {free:,} are free in {folder.parent}")
            for entry, file in wanted.items():
                (folder / file).parent.mkdir(exist_ok=True)
                with archive.open(entry) as source, (folder / file).open("wb") as target:
                    shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise BeirError(f"{path} is no zip file that can be read: {error}") from error
    except RuntimeError as error:  # zipfile's word for a password
        raise BeirError(f"{path} cannot be unpacked: {error}") from error


def _hidden(name: str) -> bool:
    return any(part.startswith(_HIDDEN) for part in PurePosixPath(name).parts)


def _top(path: Path, members: list[zipfile.ZipInfo]) -> PurePosixPath:
    """The folder that has the corpus."""
    tops = sorted(
        {
            PurePosixPath(entry.filename).parent
            for entry in members
            if PurePosixPath(entry.filename).name in {"corpus.jsonl", "corpus.jsonl.gz"}
        }
    )
    if len(tops) != 1:
        found = f"several: {', '.join(map(str, tops))}" if tops else "no corpus.jsonl"
        raise BeirError(f"{path} must hold one BEIR collection (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv); {found}")
    return tops[0]


def _file(name: str, top: PurePosixPath) -> str | None:
    """The name within the collection of a file that belongs to it."""
    entry = PurePosixPath(name)
    if not entry.is_relative_to(top):
        return None
    inner = entry.relative_to(top).as_posix()
    return inner if _FILES.fullmatch(inner) else None
