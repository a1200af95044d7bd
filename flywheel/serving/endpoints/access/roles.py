"""Which role each part of the API asks for. What is not listed here needs the strongest one."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["collect", "search", "read", "operate"]
ROLES: tuple[Role, ...] = get_args(Role)
# who operates sees what is operated
INCLUDED: dict[Role, frozenset[Role]] = {
    "collect": frozenset({"collect"}),
    "search": frozenset({"search"}),
    "read": frozenset({"read"}),
    "operate": frozenset({"operate", "read"}),
}

# probes of orchestrators, and the page, which holds no data of its own
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/login", "/logout"})
METRICS = "/metrics"
COLLECTED = ("/v1/ubi/queries", "/v1/ubi/events")
_SEARCHED = frozenset({"/v1/search", "/v1/embeddings"})
_READ_BY_POST = frozenset({"/v1/sql"})
_READ_BY_NAME = frozenset({"status", "models", "experiments", "triggers", "decisions", "seen_documents", "doctor"})
_OPENAI = "/openai/v1/"
_BY_NAME = "/v1/ops/"


def role_for(method: str, path: str) -> Role:
    """The role that a request needs. `OPEN_PATHS` need none; ask for them first."""
    if path in COLLECTED:
        return "collect"
    if path in _SEARCHED or path.startswith(_OPENAI):
        return "search"
    if path in _READ_BY_POST or path == METRICS:
        return "read"
    if path.startswith(_BY_NAME):
        return "read" if path.removeprefix(_BY_NAME) in _READ_BY_NAME else "operate"
    return "read" if method in ("GET", "HEAD") else "operate"


def widened(roles: frozenset[Role]) -> frozenset[Role]:
    """The roles with those that they include."""
    return frozenset().union(*(INCLUDED[role] for role in roles))
