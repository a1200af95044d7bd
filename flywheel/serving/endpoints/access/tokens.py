"""The tokens that open the API: `serving.token` for everything, and named ones with roles, from settings or a file.

The file is read again when it changes, so that a token is given, changed or taken away without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flywheel.serving.endpoints.access.roles import ROLES, Role, widened
from flywheel.settings.load import ConfigError, Serving

_log = logging.getLogger("flywheel.serving")
OWNER = "serving.token"
_LOOK_SECONDS = 1.0
_SHORTEST, _FEWEST_CHARACTERS = 16, 8
_LINE = 'a line is: NAME ROLE[,ROLE…] TOKEN, as in "shop-web collect 9f86d081884c7d65"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: the token's name, and what it may do."""

    name: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class Token:
    """One token. Two of one name may be good at a time, so that it can be changed without a gap."""

    caller: Caller
    secret: bytes

    @property
    def weak(self) -> bool:
        """Whether it could be guessed: short, or of few characters."""
        return len(self.secret) < _SHORTEST or len(set(self.secret)) < _FEWEST_CHARACTERS


class Tokens:
    """All tokens that are good now."""

    def __init__(self, settings: Serving, seconds: Callable[[], float] = time.monotonic) -> None:
        """
        Raises:
            ConfigError: a token without a known role, or a file that cannot be read.
        """
        self._fixed = tuple(_fixed(settings))
        self._file = settings.tokens_file
        self._seconds = seconds
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._looked = float("-inf")
        self._read: tuple[Token, ...] = ()
        if self._file is not None:
            self._stamp, self._read = _stamp(self._file), tuple(_of_file(self._file))
            self._looked = seconds()

    def now(self) -> tuple[Token, ...]:
        """The tokens, those of the file as it stands. A file that cannot be read leaves the earlier ones good."""
        if self._file is not None and self._seconds() - self._looked >= _LOOK_SECONDS:
            with self._lock:
                self._looked = self._seconds()
                self._look(self._file)
        return (*self._fixed, *self._read)

    def of(self, secret: bytes) -> Caller | None:
        """Whose token this is; compared in constant time, so that timing reveals nothing."""
        found = None
        for token in self.now():
            if hmac.compare_digest(secret, token.secret):
                found = token.caller
        return found

    def _look(self, file: Path) -> None:
        try:
            stamp = _stamp(file)
            if stamp != self._stamp:
                self._read, self._stamp = tuple(_of_file(file)), stamp
                _log.info("tokens read anew: %s", ", ".join(token.caller.name for token in self._read))
        except ConfigError as error:
            _log.error("%s; the earlier tokens stay good", error)


def first_of(settings: Serving, role: Role) -> str | None:
    """A token for our own commands: `serving.token`, else the first that has this role."""
    good = [token for token in Tokens(settings).now() if role in token.caller.roles]
    return good[0].secret.decode("utf-8", "surrogateescape") if good else None


def sealed(token: Token, purpose: str, text: str) -> str:
    """A keyed hash of `text` that only a holder of the token can make."""
    return hmac.new(token.secret, f"{purpose}\0{text}".encode(), hashlib.sha256).hexdigest()


def _fixed(settings: Serving) -> Iterable[Token]:
    owner = (settings.token or "").strip()
    if owner:
        yield Token(Caller(OWNER, frozenset(ROLES)), owner.encode())
    yield from _parsed(settings.tokens, "serving.tokens")


def _of_file(path: Path) -> Iterable[Token]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise ConfigError(f"serving.tokens_file {path} cannot be read: {reason}") from error
    for number, line in enumerate(lines, 1):
        name, _, rest = line.strip().partition(" ")
        if name and not name.startswith("#"):
            yield from _parsed({name: rest}, f"{path}, line {number}")


def _parsed(named: Mapping[str, str], where: str) -> Iterable[Token]:
    for name, value in named.items():
        roles, _, secret = value.strip().partition(" ")
        asked = [role.strip() for role in roles.split(",")]
        unknown = sorted(set(asked) - set(ROLES))
        if unknown or not secret.strip():
            # what stands there may be a token, so it is not repeated
            raise ConfigError(f"{where}: {name!r} has no role of {', '.join(ROLES)}, or no token; {_LINE}")
        granted = widened(frozenset(role for role in ROLES if role in asked))
        yield Token(Caller(name, granted), secret.strip().encode())


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
