"""What every table of `flywheel.toml` is, and the table of exploration; the others stand in `flywheel.config`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One table of the file. Unknown keys are errors, and a loaded configuration never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Exploration(Section):
    enabled: bool = Field(True, description="false: pages are the champion's alone, and what it misses stays unknown")
    share: float = Field(0.1, ge=0, le=0.5, description="share of all slots that may show documents to learn about")
    max_ctr_cost: float = Field(0.02, ge=0, le=0.2, description="share of all clicks that this may be expected to cost")
    probability: float = Field(0.9, gt=0, le=1, description="share of a query's pages on which its slots are taken")
    confirm: float = Field(0.95, gt=0.5, lt=1, description="relevance at which a document is explored no longer")
    drop: float = Field(0.003, gt=0, lt=0.5, description="relevance below which it is given up")
    max_impressions: float = Field(60.0, gt=0, description="impressions after which it is given up undecided")
    slots: int = Field(2, ge=1, le=5, description="documents explored on one page at most")
    queries: int = Field(20_000, ge=1, description="queries explored at most, those asked most first")
    lexical_documents: int = Field(200_000, ge=0, description="collections up to this size are searched by words too")
    refresh_minutes: float = Field(30.0, gt=0, description="how often the plan is made anew")
