"""`Operations` over HTTP, for commands that run beside a daemon. It never opens the home's database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import httpx

from flywheel.operations import Json, JudgedKind, OperationError, RecordKind

if TYPE_CHECKING:
    import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"
_CONNECT_SECONDS = 5.0


class RemoteOperations:
    """The operations of the daemon at `url`, called with its bearer token if it has one."""

    def __init__(self, url: str, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(None, connect=_CONNECT_SECONDS)  # a cycle that is waited for may take an hour
        # a proxy of the environment would not reach a daemon on this machine
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def status(self) -> Json:
        return cast(Json, self._ask("status"))

    def models(self) -> list[Json]:
        return cast(list[Json], self._ask("models"))

    def experiments(self) -> list[Json]:
        return cast(list[Json], self._ask("experiments"))

    def triggers(self) -> list[Json]:
        return cast(list[Json], self._ask("triggers"))

    def decisions(self) -> list[Json]:
        return cast(list[Json], self._ask("decisions"))

    def cycle(self, wait: bool, tier: str | None = None) -> Json:
        return cast(Json, self._ask("cycle", wait=wait, tier=tier))

    def promote(self, version: str, reason: str, actor: str) -> Json:
        return cast(Json, self._ask("promote", version=version, reason=reason, actor=actor))

    def rollback(self, reason: str, actor: str) -> Json:
        return cast(Json, self._ask("rollback", reason=reason, actor=actor))

    def pause(self) -> Json:
        return cast(Json, self._ask("pause"))

    def resume(self) -> Json:
        return cast(Json, self._ask("resume"))

    def sql(self, statement: str) -> pa.Table:
        import pyarrow as pa

        response = self._send("/v1/sql", {"query": statement}, accept=ARROW)
        return pa.ipc.open_stream(response.content).read_all()

    def import_records(self, kind: RecordKind, records: list[Json]) -> Json:
        return cast(Json, self._ask("import_records", kind=kind, records=records))

    def import_judged(self, kind: JudgedKind, name: str, queries: list[Json], judgements: list[Json]) -> Json:
        return cast(Json, self._ask("import_judged", kind=kind, name=name, queries=queries, judgements=judgements))

    def seen_documents(self) -> list[str]:
        return cast(list[str], self._ask("seen_documents"))

    def erase_user(self, user_id: str) -> Json:
        return cast(Json, self._ask("erase_user", user_id=user_id))

    def backup(self, path: str) -> Json:
        return cast(Json, self._ask("backup", path=path))

    def doctor(self) -> list[Json]:
        return cast(list[Json], self._ask("doctor"))

    def arrivals(self, minutes: float) -> Json:
        return cast(Json, self._ask("arrivals", minutes=minutes))

    def dead_letters(self, reason: str | None, field: str | None, topic: str | None, limit: int) -> Json:
        return cast(Json, self._ask("dead_letters", reason=reason, field=field, topic=topic, limit=limit))

    def dead_letter(self, topic: str, partition: int, offset: int) -> list[Json]:
        return cast(list[Json], self._ask("dead_letter", topic=topic, partition=partition, offset=offset))

    def replay_dead_letters(self, reason: str | None, field: str | None, topic: str | None) -> Json:
        return cast(Json, self._ask("replay_dead_letters", reason=reason, field=field, topic=topic))

    def configure(self, key: str, value: str, actor: str) -> Json:
        return cast(Json, self._ask("configure", key=key, value=value, actor=actor))

    def _ask(self, name: str, /, **arguments: Any) -> Any:
        return self._send(f"/v1/ops/{name}", arguments).json()

    def _send(self, path: str, body: Json, accept: str = "application/json") -> httpx.Response:
        try:
            # in ASCII: half a character, which UTF-8 cannot hold, is for the daemon to judge
            content = json.dumps(body, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise OperationError(f"this cannot be sent as JSON: {error}", "invalid_json") from error
        try:
            headers = {"Accept": accept, "Content-Type": "application/json"}
            response = self._http.post(path, content=content, headers=headers)
        except httpx.HTTPError as error:
            url = self._http.base_url
            raise OperationError(f"the daemon at {url} did not answer: {error}", "unreachable") from error
        if response.is_success:
            return response
        try:
            problem = response.json()["error"]
            raise OperationError(str(problem["message"]), str(problem["code"]))
        except (ValueError, KeyError, TypeError):
            raise OperationError(f"the daemon answered {response.status_code}", "unreadable") from None
