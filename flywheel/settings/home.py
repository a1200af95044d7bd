"""The one folder that an installation owns: its paths, its secret, and the daemon that serves it now."""

from __future__ import annotations

import grp
import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flywheel.settings.choices import FILE_NAME

_LEFT = "left.json"
_FOLDERS = ("models", "indexes", "snapshots", "analytics", "logs")


class HomeError(Exception):
    """The folder cannot be used; the message names the fix."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under `root`. `init` makes them, and Flywheel writes nowhere else."""

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "flywheel.duckdb"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def indexes(self) -> Path:
        return self.root / "indexes"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def analytics(self) -> Path:
        return self.root / "analytics"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def daemon_file(self) -> Path:
        return self.root / "daemon.json"

    @property
    def exists(self) -> bool:
        return (self.root / FILE_NAME).is_file()

    def init(self) -> bool:
        """Make the folder and its commented settings; an existing file stays as it is.

        Returns:
            Whether the settings file was written now.

        Raises:
            HomeError: the folder cannot be made or written to.
        """
        os.umask(0o077)  # whatever this process and its children make here is its owner's alone
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._close_to_others()
            for name in _FOLDERS:
                (self.root / name).mkdir(exist_ok=True)
            self._secret()
            fresh = not self.exists
            if fresh:
                from flywheel.settings.load import template  # pydantic, which finding a daemon does not need

                write_atomically(self.root / FILE_NAME, template().encode())
        except OSError as error:
            raise HomeError(
                f"{self.root} cannot be used as a home: {error.strerror}; name a writable folder with --home"
            ) from error
        return fresh

    def _close_to_others(self) -> None:
        """0700 and 0600, also for what an older version made; `share` opens `analytics` afterwards."""
        if self.root.stat().st_mode & 0o077:
            for path in (self.root, *self.root.rglob("*")):
                if not path.is_symlink():
                    path.chmod(path.stat().st_mode & 0o700)

    def share(self, group: str) -> None:
        """Let the members of a group read `analytics`, and nothing else of the home.

        Raises:
            HomeError: there is no such group, or this user may not give files to it.
        """
        try:
            number = grp.getgrnam(group).gr_gid
            os.chown(self.root, -1, number)
            self.root.chmod(0o710)  # to pass through, not to look around
            for path in (self.analytics, *self.analytics.rglob("*")):
                os.chown(path, -1, number)
                path.chmod(0o750 if path.is_dir() else 0o640)
        except KeyError:
            raise HomeError(f"this system has no group {group!r}; make it, or change analytics.group") from None
        except OSError as error:
            raise HomeError(
                f"{self.analytics} cannot be given to the group {group!r}: {error.strerror}; run as a member of it"
            ) from error

    def hasher(self) -> Callable[[str], str]:
        """A keyed hash (HMAC-SHA256, 128 bits) for user and client ids; the key never leaves this folder."""
        key = self._secret()
        return lambda identity: hmac.new(key, identity.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[
            :32
        ]

    def _secret(self) -> bytes:
        path = self.root / "secret.key"
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            # only the owner may read it, from its first moment on
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(32))
                os.fsync(file.fileno())
            temporary.rename(path)
        return path.read_bytes()

    def prune_snapshots(self, kept: Collection[str]) -> None:
        """Remove training snapshots other than `kept`; the next call tries again with those that cannot be removed."""
        for folder in self.snapshots.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def announce(self, url: str) -> None:
        """Write down which process serves this home, and at which address; `retract` removes that."""
        pid = os.getpid()
        announcement = {"pid": pid, "url": url, "started": _start_of(pid)}
        write_atomically(self.daemon_file, json.dumps(announcement).encode())

    def retract(self) -> None:
        """Forget the daemon; harmless if none was announced."""
        self.daemon_file.unlink(missing_ok=True)

    def daemon(self) -> dict[str, Any] | None:
        """`{pid, url}` of the daemon that serves this home, or None. The file of a dead process does not count.

        Nor does it count if another process has that number now, which is common after a restart in a container.
        """
        try:
            announcement: dict[str, Any] = json.loads(self.daemon_file.read_text("utf-8"))
            pid, url = int(announcement["pid"]), str(announcement["url"])
            os.kill(pid, 0)  # sends nothing; fails if there is no such process
        except (OSError, ValueError, KeyError, TypeError):
            return None
        started = announcement.get("started")
        same = started is None or started == _start_of(pid)
        return {"pid": pid, "url": url} if same else None

    def leave(self, answers: dict[str, Any]) -> None:
        """Write down what could be asked of this home, after its database was closed; see `left`."""
        write_atomically(self.root / _LEFT, json.dumps(answers, default=str).encode())

    def left(self) -> dict[str, Any] | None:
        """The answers that the last process left here; None where it left none, or the database was written since."""
        path = self.root / _LEFT
        try:
            written = path.stat().st_mtime_ns
            files = (self.database, self.database.with_name(f"{self.database.name}.wal"))
            if any(file.exists() and file.stat().st_mtime_ns > written for file in files):
                return None
            answers: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return answers


def _start_of(pid: int) -> str | None:
    """When a process started, by the kernel's count since this boot; None where /proc does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
    except OSError:
        return None
    # field 22 (starttime) of proc(5); the program's name, in brackets, may hold spaces
    return f"{boot}-{stat.rpartition(')')[2].split()[19]}"


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary file beside it, flush to disk, rename: a reader sees the old bytes or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
