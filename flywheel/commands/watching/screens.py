"""What status, triggers, models and doctor show: a headline, then a screen of facts. It asks and prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from flywheel.commands.watching.layout import ago, columns, count, figure, lines, many, share, span

Json = Mapping[str, Any]
# checks that hold a training back instead of asking for one
BRAKES = ("paused", "disabled", "running", "cooldown", "budget", "repeat")
_WATCH = "confirmation"


def status(answer: Json, now: datetime) -> list[str]:
    """One screen: what is wrong first, else that all is well."""
    ingest, champion = answer["ingest"], answer["champion"]
    told = [headline(answer), ""]
    told += lines(
        "serves", f"{champion['version']} ({champion['tier']}), {count(answer['index']['documents'])} documents"
    )
    if answer["index"]["pending"]:
        told += lines("", f"{count(answer['index']['pending'])} documents wait for the index")
    told += lines("has read", _read(ingest))
    rates = answer.get("rates") or {}
    if rates.get("ctr") is not None:
        told += lines(
            "people", f"{share(rates['satisfied_ctr'])} of pages satisfied, {share(rates['ctr'])} clicked, last week"
        )
    told += lines("learns", _learning(answer, now))
    told += lines("tried", _field(answer)) if _field(answer) else []
    told += lines("tries", _trying(answer, now))
    if answer.get("budget"):
        told += lines("may err", f"the next challenger is tested at alpha {answer['budget']['next_alpha']:.3g}")
    told += lines(
        "daemon", "none runs on this home" if answer["uptime"] is None else f"up for {span(answer['uptime'])}"
    )
    for part, words in answer["problems"].items():
        told += lines("! " + part, words)
    for words in ingest.get("warnings") or ():
        told += lines("note", words)
    return told


def headline(answer: Json) -> str:
    """One sentence: whether somebody must do something, and what serves."""
    serves = f"{answer['champion']['version']} serves"
    if answer["uptime"] is None:
        return f"No daemon runs on this home; {serves} when `flywheel run` starts it."
    if answer.get("ready"):
        return f"Searches are not answered yet: {answer['ready'][0]}."
    problems = answer["problems"]
    if problems:
        names = ", ".join(problems)
        return f"{serves}, and {names} {'needs' if len(problems) == 1 else 'need'} a look: see ! below."
    if answer["cycle"]["paused"]:
        return f"{serves}; learning is paused, and `flywheel resume` goes on."
    live = answer["experiment"]
    if live and live.get("stage") == _WATCH:
        return f"All is well: {serves}, and some people keep {live['champion']} to see that it is better."
    if live:
        return f"All is well: {serves}, and {live['version']} is tried beside it."
    return f"All is well: {serves}."


def _read(ingest: Json) -> str:
    words = f"{many(ingest['queries'], 'page')}, {many(ingest['events'], 'event')}"
    if ingest.get("dead_letters"):
        words += f", {count(ingest['dead_letters'])} that nobody could read"
    if ingest.get("stalled_seconds"):
        return f"{words}; it has stood still for {span(ingest['stalled_seconds'])}"
    if ingest.get("lag") is None:
        return words
    return f"{words}; {count(ingest['lag'])} wait, {ingest['rate']:.0f} a second come in"


def _learning(answer: Json, now: datetime) -> str:
    cycle, training = answer["cycle"], answer.get("training")
    if cycle["running"]:
        step = f", step {training['step']} of {training['steps']}" if training else ""
        return f"{cycle['running']['version']} is being made ({cycle['running']['state']}{step})"
    last = cycle["last"]
    if not last:
        return "nothing yet; `flywheel triggers` says what it waits for"
    ended = last.get("finished_at") or last.get("started_at")
    brake = next((check for check in answer.get("triggers", ()) if check["name"] == "repeat" and check["fired"]), None)
    if brake:
        return f"last {ago(ended, now)}: {last['state']}; {brake['note']}"
    return f"last {ago(ended, now)}: {last['state']}; `flywheel triggers` says what it waits for"


def _field(answer: Json) -> str:
    """The ways of the last run: what each gained over the champion, with its standard error, and how it ended."""
    field = (answer["cycle"]["last"] or {}).get("field") or {}
    told = []
    for way in field.get("ways", ()):
        if way["state"] == "not tried":
            continue
        gained = f" {way['gain']:+.3f} ± {way['standard_error'] or 0:.3f}" if way.get("gain") is not None else ""
        told.append(f"{way['way']}{gained} ({way['state']})")
    return ", ".join(told)


def _trying(answer: Json, now: datetime) -> str:
    live, queued = answer["experiment"], answer["experiments"]["queued"]
    waits = f"; {count(queued)} wait{'s' if queued == 1 else ''}" if queued else ""
    if not live:
        return f"nothing live{waits}"
    look = (live.get("progress") or {}).get("look") or {}
    seen = "; ".join(look.get("reasons") or ())
    share_of = f" with {share(live['share'])} of the people" if live.get("share") else ""
    begun = ago(live.get("started_at"), now)
    if live["stage"] == _WATCH:
        kept = share(live["share"]) if live.get("share") else "some"
        kept = f"{live['champion']}, which {kept} of the people keep"
        return f"whether {live['version']} is better than {kept}, since {begun}{waits}. {seen}"
    return f"{live['version']} beside {live['champion']}, {live['stage']}{share_of}, since {begun}{waits}. {seen}"


def triggers(checks: Sequence[Json], now: datetime, *, running: bool, began: datetime | None = None) -> list[str]:
    """A line for each threshold: value, threshold, when it last fired, why not now.

    `began` is when the daemon did: checks from before it are of another one, and what ran then may not run now.
    """
    fresh = running and (began is None or datetime.fromisoformat(checks[0]["ts"]) >= began)
    asks = [check for check in checks if check["name"] not in BRAKES]
    brakes = [
        check for check in checks if check["name"] in BRAKES and check["fired"] and (fresh or not _passing(check))
    ]
    rows = [
        (
            check["name"],
            figure(check["value"]),
            figure(check["threshold"]),
            ago(check.get("last_fired"), now),
            "asks now" if check["fired"] else _why_not(check),
        )
        for check in asks
    ]
    told = [_due(asks, brakes, running, now, None if fresh else checks[0]["ts"]), ""]
    told += columns(rows, ("trigger", "value", "fires at", "last fired", "now"))
    if brakes:
        told += ["", *(line for check in brakes for line in lines("held back", check["note"]))]
    return told


def _passing(check: Json) -> bool:
    """What holds back only while a daemon runs: after its end nothing is running, and time goes on."""
    return check["name"] in ("running", "cooldown")


def _why_not(check: Json) -> str:
    """The note without the name of the figure, which stands in its own column; what is off says so."""
    note = str(check["note"])
    return note if note.startswith("off: ") else note.partition(": ")[2] or note


def _due(asks: Sequence[Json], brakes: Sequence[Json], running: bool, now: datetime, old: str | None) -> str:
    """`old` is when the checks were made, where that was before this daemon began."""
    if not running:
        return f"No daemon runs, so nothing is checked; this is what was found {ago(old, now)}."
    if old is not None:
        return f"The daemon has just started and checks soon; this is what was found {ago(old, now)}."
    fired = [check["name"] for check in asks if check["fired"]]
    if not fired:
        return "Nothing asks for a training now."
    asked = "asks" if len(fired) == 1 else "ask"
    if brakes:
        return f"{', '.join(fired)} {asked} for a training, which is held back: {brakes[0]['note']}."
    return f"{', '.join(fired)} {asked} for a training, which begins."


def models(versions: Sequence[Json], now: datetime) -> list[str]:
    """A line for each version, the newest first, with its role."""
    serving = next((model["version"] for model in versions if model["alias"] == "champion"), None)
    tried = next((model["version"] for model in versions if model["alias"] == "challenger"), None)
    beside = f", and {tried} is tried beside it" if tried else ""
    told = [f"{serving} serves{beside}; {many(len(versions), 'version')}." if serving else "No model serves yet.", ""]
    rows = [
        (
            model["version"],
            model["alias"] or model.get("state") or "–",
            _way(model),
            model["parent"] or "–",
            ago(model["created_at"], now),
        )
        for model in reversed(versions)
    ]
    return [*told, *columns(rows, ("version", "role", "tier", "made from", "made"))]


def _way(model: Json) -> str:
    """The tier, or the way that was chosen of a field and among how many."""
    field = model.get("field")
    if not field:
        return str(model["tier"])
    tried = sum(way["state"] != "not tried" for way in field["ways"])
    return f"{field['chosen']}, of {tried}" if tried > 1 else str(field["chosen"])


def doctor(checks: Sequence[Json]) -> list[str]:
    """What is wrong first, then the rest."""
    wrong = [check for check in checks if not check["ok"]]
    head = (
        "All is as it should be."
        if not wrong
        else f"{count(len(wrong))} of {count(len(checks))} need{'s' if len(wrong) == 1 else ''} a look."
    )
    told = [head, ""]
    for check in [*wrong, *(check for check in checks if check["ok"])]:
        told += lines(f"{'ok' if check['ok'] else 'NO'}  {check['check']}", check["detail"], indent=16)
    return told


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
