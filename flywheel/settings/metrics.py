"""Settings of the product's own metrics: what counts, over what, which way is better, and what may be lost of it."""

from __future__ import annotations

import re
from typing import Literal, get_args

from pydantic import Field, field_validator, model_validator

from flywheel.settings.choices import LiveMetric
from flywheel.settings.sections import Section

Per = Literal["page", "user", "event"]
ANY, COUNT, DELAY = "any", "count", "delay_s"
_TAKEN = frozenset(
    {*get_args(LiveMetric), "latency_ms", "empty_rate", "abandonment", "thumbs_down", "preference", "credit"}
)


class OwnMetric(Section):
    """One metric: what a person's pages bring, over pages, people or events.

    `event` is an `action_name` as it was sent, or a kind such as `purchase`. `value` is `any` (1 for a page with such
    an event), `count` (events), `delay_s` (seconds from the page to its first such event), or the path of a number in
    `event_attributes`. `page` is instead the path of a number in `query_attributes`.
    """

    event: str = ""
    page: str = ""
    value: str = ANY
    per: Per | None = None
    better: Literal["higher", "lower"] = "higher"
    winsorise: float = Field(0.99, ge=0.5, le=1)

    @model_validator(mode="after")
    def _one_source(self) -> OwnMetric:
        if bool(self.event) == bool(self.page):
            raise ValueError('name either its event, as in {event = "purchase"}, or its page attribute')
        if self.value == DELAY and self.per not in {None, "event"}:
            raise ValueError("a delay exists where the event does: per is event")
        return self

    @property
    def over(self) -> Per:
        """What its sum is divided by: pages, unless said otherwise; for a delay or a page's number, those there are."""
        return self.per or ("event" if self.page or self.value == DELAY else "page")


class Metrics(Section):
    own: dict[str, OwnMetric] = Field(
        default_factory=dict,
        description="your metrics: name -> event or page, value, per, better, winsorise; see For analysts",
    )
    guard: dict[str, float] = Field(
        default_factory=dict, description="metric -> share of the champion's that a challenger may lose of it"
    )

    @field_validator("own")
    @classmethod
    def _named(cls, own: dict[str, OwnMetric]) -> dict[str, OwnMetric]:
        for name in own:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in _TAKEN:
                raise ValueError(
                    f"{name!r} cannot name a metric: small letters, digits and _, and not {sorted(_TAKEN)}"
                )
        return own

    @model_validator(mode="after")
    def _guarded(self) -> Metrics:
        for name, share in self.guard.items():
            if name not in self.own and name not in get_args(LiveMetric):
                raise ValueError(f"guard names {name}, which is no metric; there are {', '.join(self.names)}")
            if not 0 <= share < 1:
                raise ValueError(f"guard.{name} is a share from 0 to below 1, not {share:g}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that can judge a live experiment."""
        return (*get_args(LiveMetric), *self.own)
