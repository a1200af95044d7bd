"""Copies a home while it is in use, and puts a copy back. A manifest, written last, says that a copy is whole.

A copy has the key of the hashed ids, so it is as confidential as the home. Published files and snapshots are left out:
they are made anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from flywheel.operations import Json, OperationError
from flywheel.settings.erased import FILE_NAME as LEDGER
from flywheel.settings.erased import Ledger
from flywheel.settings.home import Home, write_atomically
from flywheel.store.schema.database import Database
from flywheel.store.store import Store

MANIFEST = "backup.json"
_DATABASE = "flywheel.duckdb"
_FOLDERS = ("models", "indexes")
_FILES = ("flywheel.toml", "secret.key", LEDGER)
_FORMAT = 1
_RESTORED = "restored"  # stands in a home until erasures are repeated in it
log = logging.getLogger(__name__)


def backup(home: Home, database: Database, target: Path, now_ms: int) -> Json:
    """Copy the home to a new folder: 1. models and indexes, 2. the database, while nobody writes, 3. the manifest.

    Models first: one that the database names is then in the copy, and one that it does not know does no harm.

    Raises:
        OperationError: the folder is there already, lies within the home, or cannot be written.
    """
    if target.resolve().is_relative_to(home.root.resolve()):
        raise OperationError(f"{target} lies within the home; name a folder elsewhere", "bad_target")
    try:
        target.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise OperationError(f"{target} is there already; name a new folder", "bad_target") from None
    except OSError as error:
        raise OperationError(f"{target} cannot be made: {error.strerror}", "bad_target") from error
    try:
        for name in _FOLDERS:  # 1
            shutil.copytree(home.root / name, target / name, ignore=shutil.ignore_patterns(".*", "*.tmp", "*.part"))
        for name in _FILES:
            if (home.root / name).exists():
                shutil.copy2(home.root / name, target / name)
        with database.quiet() as path:  # 2
            shutil.copyfile(path, target / _DATABASE)
        files = {str(path.relative_to(target)): _digest(path) for path in _files(target)}
        made = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="seconds")
        manifest = {"format": _FORMAT, "made_at": made, "files": files}
        for path in _files(target):
            path.chmod(0o600)
            _flush(path)
        write_atomically(target / MANIFEST, json.dumps(manifest, indent=1).encode())  # 3
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise OperationError(f"{target} could not be written: {error}; nothing is left there", "bad_target") from error
    size = sum(path.stat().st_size for path in _files(target))
    return {"path": str(target), "made_at": made, "files": len(files), "bytes": size}


def check(source: Path) -> Json:
    """The manifest of a copy whose every file is as it was written.

    Raises:
        OperationError: no copy, one that was not finished, or one that was changed; the file is named.
    """
    try:
        manifest: Json = json.loads((source / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise OperationError(f"{source} is no finished backup: it has no {MANIFEST}", "bad_backup") from error
    if manifest.get("format") != _FORMAT:
        raise OperationError(f"{source} was made by another version of Flywheel", "bad_backup")
    for name, digest in manifest["files"].items():
        if not (source / name).is_file() or _digest(source / name) != digest:
            raise OperationError(f"{source / name} is not as it was written; take another backup", "bad_backup")
    return manifest


def put_back(home: Home, source: Path) -> Json:
    """Put a copy in the home's place; the log of erasures keeps what either of them has.

    1. copy beside the home, 2. join the logs, 3. swap the two in renames. Killed before 3, the home is as it was;
    killed within it, the old home stands beside as `NAME.before-restore`.

    Raises:
        OperationError: no whole copy, or the home is in use.
    """
    manifest = check(source)
    if home.daemon() is not None:
        raise OperationError(f"a daemon serves {home.root}; stop it first", "busy")
    root = home.root
    fresh, former = (root.with_name(f"{root.name}.{name}") for name in ("restoring", "before-restore"))
    if former.exists():
        raise OperationError(f"{former} is there from an earlier restore; look at it and move it away", "busy")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)  # 1
    (fresh / MANIFEST).unlink()
    lines = Ledger(root, Path()).lines()
    Ledger(fresh, Path()).join(lines)  # 2
    (fresh / _RESTORED).touch()
    for path in _files(fresh):
        path.chmod(0o600)
    if root.exists():
        root.rename(former)  # 3
    fresh.rename(root)
    home.init()
    return {"restored": str(root), "made_at": manifest["made_at"], "former": str(former) if former.exists() else None}


def repeat_erasures(home: Home, store: Store, ledger: Ledger, hash_id: Callable[[str], str]) -> int:
    """In a home that was just put back, erase again whoever was erased since. Returns how many people.

    Raises:
        ConfigError: there is a log of erasures, and no key to read it with.
    """
    mark = home.root / _RESTORED
    if not mark.exists():
        return 0
    gone = ledger.erased(store.erasure.people())
    if gone:
        store.erasure.erase_user(gone, hash_id=hash_id)
        log.warning("erased again since the backup: %d people", len(gone))
    mark.unlink()
    return len(gone)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
