"""Runs blocking work beside the event loop, on threads that never keep a stopping daemon alive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def beside(work: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Run `work` on a daemon thread of its own and await its result.

    When the wait is cancelled, the thread finishes by itself. A pooled thread would delay the shutdown: a cycle that a
    client waits for may take an hour.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(value)  # type: ignore[arg-type]  # None only where T allows it

    def run() -> None:
        value: T | None = None
        failure: BaseException | None = None
        try:
            value = work(*arguments, **options)
        except Exception as error:  # noqa: BLE001 - raised again where the result is awaited
            failure = error
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    threading.Thread(target=run, name="flywheel-request", daemon=True).start()
    return await result
