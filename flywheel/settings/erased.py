"""Remembers who was erased, so that a backup from before does not bring them back: keyed hashes, and a key elsewhere.

The log lies in the home and in each backup. Its key lies outside the home, so that neither tells whether somebody was
erased.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path

from flywheel.settings.load import ConfigError

FILE_NAME = "erasures.log"


class Ledger:
    """The log of one home; `key_file` is made when it is first needed."""

    def __init__(self, root: Path, key_file: Path) -> None:
        self._file = root / FILE_NAME
        self._key_file = key_file

    def add(self, person: str) -> None:
        """Note that the person with this key (as stored in the database) is erased; on disk when it returns.

        Raises:
            ConfigError: the key can be neither read nor made.
        """
        line = self._sealed(person)
        descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a", encoding="ascii") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def erased(self, people: Collection[str]) -> list[str]:
        """Which of these people were erased, by this log.

        Raises:
            ConfigError: there is a log, and no key to read it with.
        """
        noted = self.lines()
        if not noted:
            return []
        if not self._key_file.exists():
            raise ConfigError(
                f"{self._key_file} is not there, and without it nobody can tell who was erased since the backup: put "
                "it back, or name it in keeping.erasure_key_file"
            )
        return [person for person in people if self._sealed(person) in noted]

    def lines(self) -> set[str]:
        """The log as it stands."""
        return set(self._file.read_text("ascii").split()) if self._file.exists() else set()

    def join(self, lines: Collection[str]) -> None:
        """Take over what another log of the same key has."""
        known = self.lines() | set(lines)
        if known:
            self._file.write_text("".join(f"{line}\n" for line in sorted(known)), "ascii")
            self._file.chmod(0o600)

    def _sealed(self, person: str) -> str:
        return hmac.new(self._key(), person.encode(), hashlib.sha256).hexdigest()

    def _key(self) -> bytes:
        path = self._key_file
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(32))
                    os.fsync(file.fileno())
            return path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{path} can be neither read nor made: {error.strerror}; set keeping.erasure_key_file to a file "
                "outside the home"
            ) from error


def key_file(configured: Path | None, environ: Mapping[str, str]) -> Path:
    """Where the key lies: as configured, else in the user's own configuration folder."""
    if configured is not None:
        return configured.expanduser()
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "flywheel" / "erasure.key"
