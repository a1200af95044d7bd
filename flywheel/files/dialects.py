"""What rows of Google Analytics 4, Snowplow and Segment say, each in the words of its public documentation.

GA4: the export to BigQuery, its daily tables as JSON or Parquet. Snowplow: enriched events, as tab-separated values or
as its analytics SDKs and loaders write them. Segment: what its storage destinations write, one call a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.files import cells, readers, texts
from flywheel.files.analytics import Dialect, Happening, Item, Record, Rows, What, read
from flywheel.files.cells import BadCell
from flywheel.files.lines import bounded
from flywheel.files.skipped import ImportCount, ImportFailed
from flywheel.files.snowplow import COLUMNS

_QUERY_IDS = ("query_id", "queryID", "queryId", "search_id", "searchId")  # what a product may send along by itself
_GA4: dict[str, What] = {
    "search": "search",
    "view_search_results": "search",
    "view_item_list": "list",
    "select_item": "click",
    "add_to_cart": "add_to_cart",
    "purchase": "purchase",
}
# both generations of the specification: "Product Clicked" and "Clicked Product"
_SEGMENT: dict[frozenset[str], What] = {
    frozenset({"products", "searched"}): "search",
    frozenset({"product", "list", "viewed"}): "list",
    frozenset({"product", "clicked"}): "click",
    frozenset({"product", "added"}): "add_to_cart",
    frozenset({"order", "completed"}): "purchase",
}
_SNOWPLOW: dict[str, What] = {
    "list_view": "list",
    "list_click": "click",
    "add_to_cart": "add_to_cart",
    "transaction": "purchase",
}
_MOST_MS = 253_402_300_799_000  # the year 9999
_SCHEMA = re.compile(r"iglu:[^/]+/([^/]+)/")
_COLUMN = re.compile(r"(?:unstruct_event|contexts)_.*?_(site_search|snowplow_ecommerce_action|product|transaction)_\d+"
                     r"(?:_\d+_\d+)?")  # fmt: skip


def ga4(row: Record) -> Happening:
    """A row of `events_YYYYMMDD`.

    Raises:
        BadCell: it has no event_name, or no event_timestamp.
    """
    parameters = _parameters(row.get("event_params"))
    name = _required(row, "event_name")
    client_id, session = _text(row.get("user_pseudo_id")), _text(parameters.get("ga_session_id"))
    list_name = _text(parameters.get("item_list_name")) or _text(parameters.get("item_list_id"))
    products = [_object(item) for item in _list(row.get("items"))]
    list_name = list_name or next((found for item in products if (found := _text(item.get("item_list_name")))), None)
    device = _object(row.get("device"))
    web = _object(device.get("web_info"))
    return Happening(
        what=_GA4.get(name, "other"),
        name=name,
        ms=_whole(_required(row, "event_timestamp"), "event_timestamp") // 1_000,
        client_id=client_id,
        user_id=_text(row.get("user_id")),
        session=f"{client_id}.{session}" if client_id and session else None,
        parts=tuple(str(row.get(part)) for part in ("event_bundle_sequence_id", "batch_ordering_id")),
        term=_words(parameters.get("search_term")),
        query_id=_own_id(parameters),
        items=_items(products, ("item_id", "item_name"), ("index", "item_list_index")),
        searching=_is_search(list_name),
        application=_text(row.get("stream_id")) or _text(web.get("hostname")),
        properties=parameters,
    )


def segment(row: Record) -> Happening:
    """A call of `track`.

    Raises:
        BadCell: it is another call, or has no time.
    """
    kind = _text(row.get("type")) or _text(row.get("action")) or "track"
    if kind != "track":
        raise BadCell(f"a call of {kind[:64]}, which is no event")
    name, properties = _required(row, "event"), _object(row.get("properties"))
    anonymous, user = _text(row.get("anonymousId")), _text(row.get("userId"))
    session = _text(_object(row.get("context")).get("sessionId")) or _text(properties.get("session_id"))
    products = [_object(item) for item in _list(properties.get("products"))] or [properties]
    list_name = (
        _text(properties.get("list_id")) or _text(properties.get("list_name")) or _text(properties.get("category"))
    )
    return Happening(
        what=_SEGMENT.get(frozenset(name.casefold().split()), "other"),
        name=name,
        ms=_moment(next((row[at] for at in ("timestamp", "originalTimestamp", "sentAt") if row.get(at)), None)),
        client_id=anonymous or user,
        user_id=user,
        session=session,
        parts=(_text(row.get("messageId")) or "",),
        term=_words(properties.get("query")),
        query_id=_own_id(properties),
        items=_items(products, ("product_id", "productId", "id", "sku"), ("position",)),
        searching=_is_search(list_name),
        application=_text(row.get("projectId")),
        properties=properties,
    )


def snowplow(row: Record) -> Happening:
    """An enriched event: a site search, or an action of the e-commerce plugin with its products.

    Raises:
        BadCell: it has no event_id or no time.
    """
    parts = _entities(row)
    action, searched = parts.get("snowplow_ecommerce_action", [{}])[0], parts.get("site_search", [{}])[0]
    what: What = "search" if searched else _SNOWPLOW.get(str(action.get("type")), "other")
    name = "site_search" if searched else _text(action.get("type")) or _text(row.get("event_name"))
    list_name, properties = _text(action.get("name")), {**action, **searched}
    return Happening(
        what=what,
        name=name or _text(row.get("event")) or "event",
        ms=_moment(next((row[at] for at in ("derived_tstamp", "collector_tstamp") if row.get(at)), None)),
        client_id=_text(row.get("domain_userid")) or _text(row.get("network_userid")),
        user_id=_text(row.get("user_id")),
        session=_text(row.get("domain_sessionid")),
        parts=(_required(row, "event_id"),),
        term=_words(searched.get("terms")),
        query_id=_own_id(properties),
        items=_items(parts.get("product", []), ("id",), ("position",)),
        searching=_is_search(list_name),
        application=_text(row.get("app_id")),
        properties=properties,
    )


def _snowplow_rows(path: Path, tally: ImportCount) -> Iterator[Record]:
    """Enriched events of any file: lines of 131 cells without a header, whatever its ending, or what others have."""
    name = path.name.removesuffix(".gz")
    if Path(name).suffix in (".json", ".jsonl", ".ndjson", ".parquet", ".csv"):
        yield from readers.rows(path, tally)
        return
    with texts.opened(path) as file:
        for number, line in enumerate(bounded(file), 1):
            cut = line.rstrip("\r\n").split("\t")
            tally.place = f"{path.name}:{number}"
            if cut[0] == COLUMNS[0] or not line.strip():
                continue
            tally.read += 1
            if abs(len(cut) - len(COLUMNS)) > 1:  # a line less its last, empty cell is one too
                tally.skip(f"{len(cut)} cells; an enriched event has {len(COLUMNS)}")
                continue
            yield {column: cell for column, cell in zip(COLUMNS, cut, strict=False) if cell}


FORMATS: dict[str, tuple[Rows, Dialect]] = {
    "ga4": (readers.rows, ga4),
    "snowplow": (_snowplow_rows, snowplow),
    "segment": (readers.rows, segment),
}


def reader(name: str) -> Any:
    """`read(path, tally)` for the export of that name."""
    rows, dialect = FORMATS[name]

    def records(path: Path, tally: ImportCount) -> Iterator[Record]:
        try:
            yield from read(path, tally, rows, dialect)
        except UnicodeError as error:
            raise ImportFailed(f"{path} cannot be read after row {tally.read}: {error}") from error

    return records


def _entities(row: Record) -> dict[str, list[Record]]:
    """The self-describing event and the entities beside it, by the names of their schemas."""
    found: dict[str, list[Record]] = {}
    outer = [_object(row.get(cell)).get("data") for cell in ("unstruct_event", "contexts", "derived_contexts")]
    for entity in (inner for data in outer for inner in (data if isinstance(data, list) else [data])):
        schema = _SCHEMA.match(str(_object(entity).get("schema")))
        if schema:
            found.setdefault(schema[1], []).append(_object(_object(entity).get("data")))
    for name, cell in row.items():  # a column for each schema
        column = _COLUMN.fullmatch(name)
        if column and cell is not None:
            found.setdefault(column[1], []).extend(_object(inner) for inner in _list(cell) or [_parsed(cell)])
    return found


def _parameters(value: Any) -> Record:
    """BigQuery's list of keys and typed values as one object."""
    found: Record = {}
    for entry in map(_object, _list(value)):
        typed = _object(entry.get("value"))
        name = _text(entry.get("key"))
        if name is not None:
            found[name] = next((inner for inner in typed.values() if inner is not None), None)
    return found


def _items(products: list[Record], ids: tuple[str, ...], places: tuple[str, ...]) -> tuple[Item, ...]:
    found = []
    for product in products:
        doc_id = next((text for name in ids if (text := _text(product.get(name)))), None)
        if doc_id is not None and doc_id != "(not set)":
            place = next((product[name] for name in places if product.get(name) not in (None, "", "(not set)")), None)
            found.append(Item(doc_id, _place(place)))
    return tuple(found)


def _place(value: Any) -> int | None:
    try:
        return int(found) if (found := cells.number(value)) is not None else None
    except BadCell:
        return None


def _is_search(list_name: str | None) -> bool:
    return list_name is None or "search" in list_name.casefold()


def _own_id(properties: Mapping[str, Any]) -> str | None:
    return next((found for name in _QUERY_IDS if (found := _text(properties.get(name)))), None)


def _required(row: Record, name: str) -> str:
    found = cells.text(row.get(name))
    if found is None:
        raise BadCell(f"no {name}")
    return found


def _words(value: Any) -> str | None:
    """A search term; Snowplow has a list of words."""
    value = _parsed(value)
    return " ".join(filter(None, map(_text, value))) or None if isinstance(value, list) else _text(value)


def _text(value: Any) -> str | None:
    try:
        return cells.text(value)
    except BadCell:
        return None


def _whole(text: str, name: str) -> int:
    try:
        found = cells.number(text)
    except BadCell:
        found = None
    if found is None or not 0 < found <= _MOST_MS * 1_000:
        raise BadCell(f"{name}: {cells.shown(text)} is no time in microseconds")
    return int(text) if text.isdigit() else int(found)


def _moment(value: Any) -> int:
    text = _text(value)
    try:
        moment = datetime.fromisoformat(text or "")
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000)
    except (ValueError, OverflowError) as error:
        raise BadCell(f"{cells.shown(value)} where a time is expected") from error


def _parsed(value: Any) -> Any:
    """A cell, as JSON where it is text that holds JSON."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _object(value: Any) -> Record:
    found = _parsed(value)
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    """A list, also in the wrapping that BigQuery's Parquet has around one: `{"list": [{"element": …}]}`."""
    found = _parsed(value)
    if isinstance(found, dict) and found.keys() == {"list"}:
        found = found["list"]
    if not isinstance(found, list):
        return []
    return [inner["element"] if isinstance(inner, dict) and inner.keys() == {"element"} else inner for inner in found]
