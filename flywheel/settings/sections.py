"""All settings by section: every key with its default, its bounds and its meaning. Nothing here reads a file."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from flywheel.settings.choices import TierChoice

Stage = Literal["offline", "shadow", "interleaving", "split", "observe"]
Bf16 = Literal["auto", "on", "off"]
Loss = Literal["ranking", "triplet"]
Distillation = Literal["kl", "margin_mse"]
Share = Annotated[float, Field(gt=0, le=0.5)]


class Section(BaseModel):
    """One table of the file. Unknown keys are errors, and a loaded configuration never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Signals(Section):
    ordinal_base: Literal[0, 1] = Field(1, description="what the first result's position.ordinal is in your events")
    bounce_ms: int = Field(5_000, ge=0, description="a dwell below this weakens its click (see learn_dwell)")
    satisfied_ms: int = Field(30_000, ge=0, description="a dwell above this confirms its click (see learn_dwell)")
    learn_dwell: bool = Field(
        True,
        description="take both from the dwells themselves where you set neither, or where these fall into two heaps",
    )
    action_names: dict[str, str] = Field(
        default_factory=dict,
        description="your action_name -> click | dwell | thumbs_up | thumbs_down | impression | add_to_cart | purchase",
    )
    arm_names: dict[str, Literal["champion", "challenger"]] = Field(
        default_factory=dict, description="your arm -> champion | challenger; control and treatment are known"
    )
    dedupe_hours: float = Field(24.0, gt=0, description="window in event time in which a repeated event_id is dropped")
    watermark_minutes: float = Field(30.0, ge=0, description="how late feedback may come before its window is closed")
    posterior_threshold: float = Field(0.5, gt=0, lt=1, description="relevance above which a document is a positive")
    ambiguous_threshold: float = Field(0.05, ge=0, lt=1, description="relevance above which it is no negative")
    expected_precision: float = Field(
        0.95, ge=0, lt=1, description="share of the positives that must be right as far as the click model knows"
    )
    half_life_days: float = Field(90.0, gt=0, description="age at which evidence counts half")
    user_cap: float = Field(3.0, gt=0, description="impressions of one pair by one user that count")
    user_share: float = Field(0.2, gt=0, le=1, description="share of a query's evidence that one user carries at most")
    session_context: bool = Field(True, description="let clicks further up the page change what a non-click means")
    redact: bool = Field(
        True, description="take e-mail addresses, card and phone numbers and tokens out of query texts that are stored"
    )


class Retrain(Section):
    min_new_pairs: int = Field(200, ge=1, description="retrain at this many new positive pairs")
    satisfied_ctr_drop: float = Field(0.10, gt=0, description="retrain at this relative weekly fall of satisfied CTR")
    drift: float = Field(0.15, gt=0, description="retrain at this Jensen-Shannon distance of the query distribution")
    golden_drop: float = Field(0.02, gt=0, description="retrain when nDCG@10 on a golden set falls by this much")
    cron: str | None = Field(None, description="retrain at these times too (crontab, UTC), for example '0 3 * * 1'")
    check_seconds: float = Field(60.0, gt=0, description="how often the thresholds are checked")
    cooldown_minutes: float = Field(60.0, ge=0, description="no two trainings closer than this")
    max_runs_per_day: int = Field(8, ge=1, description="training runs in 24 hours, at most")
    enabled: bool = Field(True, description="false: only `flywheel cycle` retrains")

    @field_validator("cron")
    @classmethod
    def _crontab(cls, cron: str | None) -> str | None:
        """Refused when it is set, not when the daemon first needs it."""
        if cron:
            from apscheduler.triggers.cron import CronTrigger

            try:
                CronTrigger.from_crontab(cron, timezone=UTC)
            except ValueError as error:
                raise ValueError(f"no crontab line such as '0 3 * * 1': {error}") from error
        return cron or None


class Trainer(Section):
    base_model: str = Field(
        "auto", description="a SentenceTransformer folder or hub name (fetched once); auto: the MiniLM wheel"
    )
    tier: TierChoice = Field(
        "query_tower", description="auto (a field, the data choose) | adapter | query_tower | full"
    )
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the query tower")
    steps: int = Field(120, ge=1, description="optimiser steps of one run at most (query_tower)")
    batch_size: int = Field(128, ge=2, description="queries in a step")
    scale: float = Field(
        30.0,
        gt=0,
        description="adapter, query_tower: cosine times this enters the softmax; unset: lower for clicks read weakly",
    )
    layers: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        2, description="top transformer layers that train; all: the whole tower"
    )
    lora_rank: int = Field(0, ge=0, description="query_tower: rank of low-rank updates (extra lora); 0: whole matrices")
    exact_documents: int = Field(200_000, ge=1, description="documents up to which the softmax is over all of them")
    rejected_weight: float = Field(
        10.0, ge=1, description="documents that a thumbed-down one counts for in the softmax"
    )
    loss: Loss = Field("ranking", description="full: softmax over a batch's documents, or triplets")
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="full: shorter lengths that must rank too, for example [192, 96]"
    )
    hard_negatives: int = Field(2, ge=0, description="full: hard documents that each query brings into a step")
    negative_sources: tuple[Literal["mined", "bm25"], ...] = Field(
        ("mined", "bm25"), description="full: who finds them, the champion's own ranking and BM25"
    )
    negative_depth: int = Field(100, ge=1, description="full: how deep those rankings are read")
    negative_margin: float = Field(
        0.95, gt=0, le=1, description="full: share of the right document's score that a hard one stays below"
    )
    teacher: str = Field("", description="full: folder of a cross-encoder or larger bi-encoder to learn from")
    teacher_loss: Distillation = Field("kl", description="full: match the teacher's softmax or its margins")
    teacher_weight: float = Field(1.0, ge=0, description="full: weight of the teacher's loss beside the ranking loss")
    curated_share: float = Field(
        0.2, ge=0, lt=1, description="full: last part of the steps that favours votes, purchases and annotations"
    )
    replay_share: float = Field(0.5, ge=0, lt=1, description="part of each batch drawn from earlier pairs")
    replay_size: int = Field(20_000, ge=0, description="pairs in the replay reservoir at most")
    distil: float = Field(30.0, ge=0, description="weight of staying near the champion on replayed queries")
    variants: int = Field(
        6,
        ge=0,
        description="query_tower: texts made of each replayed query, where the model stays near the champion too",
    )
    probes: int = Field(2_000, ge=0, description="documents whose first words stand for queries nobody has asked yet")
    probe_weight: float = Field(10.0, ge=0, description="weight of answering those as the base model does")
    probe_far: float = Field(4.0, ge=1, description="times that weight where no query that is learned comes near")
    merge: float = Field(0.85, gt=0, le=1, description="share of the new weights when merged with the champion's")
    dev_share: float = Field(0.1, ge=0, lt=0.5, description="queries held out of training, to stop by")
    bf16: Bf16 = Field("auto", description="bfloat16 where the processor has it")
    device: str = Field("auto", description="auto | cpu | cuda | mps")
    seed: int = Field(0, description="same seed, same snapshot: same weights")
    max_seq_length: Annotated[int, Field(ge=16)] | None = Field(
        None, description="tokens of a text that are read at most; unset: as many as the model's folder says"
    )


class Promotion(Section):
    stages: tuple[Stage, ...] = Field(
        ("offline",),
        min_length=1,
        description="a challenger's way, the last decides: offline, shadow, interleaving, split | observe",
    )
    screen_alpha: float = Field(0.20, gt=0, lt=1, description="level of the stages before the last, which only screen")
    metrics: tuple[str, ...] = Field(("recall@10", "ndcg@10"), description="primary metrics; one gain is enough")
    alpha: float = Field(0.10, gt=0, lt=0.5, description="false promotions that all challengers together may cost")
    min_effect: float = Field(0.0, ge=0, description="smallest gain worth a promotion")
    margin: float = Field(0.01, ge=0, description="loss on unseen documents that is tolerated")
    anchor_margin: float = Field(0.01, ge=0, description="loss on an anchor set that is tolerated")
    min_queries: int = Field(50, ge=2, description="judged queries below which the gate is inconclusive")
    min_unseen: int = Field(20, ge=2, description="the same for queries on documents that training never touched")
    feedback_margin: float = Field(
        0.02, ge=0, description="loss of nDCG among what was shown, on held-out feedback, that is tolerated"
    )
    min_feedback: int = Field(
        50, ge=2, description="held-out queries with a relevant document below which their feedback says nothing"
    )
    min_users: int = Field(200, ge=2, description="users per arm below which a live verdict is inconclusive")
    min_days: float = Field(7.0, ge=0, description="event days before which nothing live is promoted: a whole week")
    max_days: float = Field(28.0, gt=0, description="event days after which an undecided experiment expires")
    looks: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (), description="shares of max_days at which a live gain is tested, e.g. [0.25, 0.5, 1.0]; []: at any time"
    )
    cuped: bool = Field(True, description="take what users did before the experiment out of the live metric")
    auto: bool = Field(True, description="false: a verdict of promote waits for `flywheel promote`")
    live_metric: str = Field(
        "satisfied_ctr", description="what a live verdict rests on: satisfied_ctr, ctr, or a name in metrics.own"
    )
    interleaving_share: float = Field(1.0, gt=0, le=1, description="people whose pages are interleaved")
    ramp: tuple[Share, ...] = Field(
        (0.01, 0.05, 0.2, 0.5), min_length=1, description="people in the challenger's arm of a split, step by step"
    )
    ramp_hours: float = Field(24.0, ge=0, description="event hours that a step of the ramp takes at least")
    observe_share: float | None = Field(
        None, gt=0, lt=1, description="people to whom your product shows the challenger; unset: not checked"
    )
    user_pages: int = Field(200, ge=1, description="pages of one person that a live verdict counts at most")
    shadow_pages: int = Field(2_000, ge=1, description="pages that a challenger ranks in the shadow before its verdict")
    shadow_days: float = Field(7.0, gt=0, description="event days after which a shadow ends with the pages it has")
    look_seconds: float = Field(30.0, gt=0, description="how often a live experiment is looked at")
    queue_days: float = Field(28.0, gt=0, description="days after which a challenger that waits is given up")
    holdback: float = Field(
        0.1, ge=0, le=0.5, description="people who keep the old champion for a while after a promotion; 0: nobody"
    )
    holdback_days: float = Field(14.0, gt=0, description="event days of that watch, after which a promotion stands")
    rollback_alpha: float = Field(0.01, gt=0, lt=0.5, description="chance that a promotion is taken back wrongly")

    frozen_share: float = Field(
        0.0, ge=0, le=0.25, description="people who keep frozen_version for ever; as many always have the champion"
    )
    frozen_version: str = Field("base", min_length=1, description="the model that frozen_share of the people keep")

    @field_validator("stages")
    @classmethod
    def _in_order(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        """Each stage once and in order. A product that serves itself is only observed: no other stage is live."""
        order = get_args(Stage)
        if sorted(set(stages), key=order.index) != list(stages):
            raise ValueError(f"name each stage once, in the order {', '.join(order)}")
        if "observe" in stages and {"interleaving", "split"} & set(stages):
            raise ValueError("observe is for a product that serves itself; interleaving and split need our serving")
        if stages and stages[-1] == "shadow":
            raise ValueError("shadow screens and cannot decide; name interleaving, split or observe after it")
        return stages

    @field_validator("ramp")
    @classmethod
    def _rising(cls, ramp: tuple[float, ...]) -> tuple[float, ...]:
        if list(ramp) != sorted(set(ramp)):
            raise ValueError("the shares of a ramp rise")
        return ramp


class Exploration(Section):
    enabled: bool = Field(True, description="false: pages are the champion's alone, and what it misses stays unknown")
    share: float = Field(0.1, ge=0, le=0.5, description="share of all slots that may show documents to learn about")
    max_ctr_cost: float = Field(0.02, ge=0, le=0.2, description="share of all clicks that this may be expected to cost")
    probability: float = Field(0.9, gt=0, le=1, description="share of a query's pages on which its slots are taken")
    swaps: float = Field(0.05, ge=0, le=0.5, description="share of pages with two neighbours in a random order")
    confirm: float = Field(0.95, gt=0.5, lt=1, description="relevance at which a document is explored no longer")
    drop: float = Field(0.003, gt=0, lt=0.5, description="relevance below which it is given up")
    max_impressions: float = Field(60.0, gt=0, description="impressions after which it is given up undecided")
    slots: int = Field(2, ge=1, le=5, description="documents explored on one page at most")
    queries: int = Field(20_000, ge=1, description="queries explored at most, those asked most first")
    lexical_documents: int = Field(200_000, ge=0, description="collections up to this size are read by words too")
    refresh_minutes: float = Field(30.0, gt=0, description="how often the plan is made anew")


class Limits(Section):
    train_minutes: float = Field(60.0, gt=0, description="wall time of one training run at most")
    train_memory_gb: float = Field(8.0, gt=0, description="memory of a training process at most")
    train_threads: int = Field(0, ge=0, description="threads of a training run; 0: all cores but one")
    train_processes: int = Field(0, ge=0, description="processes of the tier full; 0: one for each CUDA device")
    memory_gb: float | None = Field(
        None, gt=0, description="memory of the daemon as a whole; unset: 80 % of the machine's or the container's"
    )
    duckdb_memory_gb: float = Field(4.0, gt=0, description="memory of the database at most")
    message_bytes: int = Field(1_048_576, ge=1_024, description="a larger message is a dead letter")
    request_bytes: int = Field(1_048_576, ge=1_024, description="a larger HTTP body is refused")
    embedding_bytes: int = Field(16_777_216, ge=1_024, description="a larger body of texts to embed is refused")
    request_records: int = Field(10_000, ge=1, description="records that one HTTP body may hold")
    connections: int = Field(1_000, ge=1, description="HTTP connections at a time; the one idle longest makes room")
    header_seconds: float = Field(10.0, gt=0, description="time that an HTTP request's head may take to arrive")
    requests_per_second: float = Field(
        2_000.0, gt=0, description="HTTP requests of one token, and of one address, that are answered; then 429"
    )
    records_per_second: float = Field(
        5_000.0, gt=0, description="UBI records of one token, and of one address, that are taken over HTTP; then 429"
    )
    idle_seconds: float = Field(15.0, ge=1, description="time that an HTTP connection may be idle between requests")
    stall_seconds: float = Field(60.0, gt=0, description="time that a client may not read before it is left")
    import_bytes: int = Field(268_435_456, ge=1_024, description="a larger HTTP import is refused")
    result_rows: int = Field(100_000, ge=1, description="rows that one SQL answer carries at most")
    result_mb: int = Field(128, ge=1, description="megabytes that one SQL answer has at most")
    sql_seconds: float = Field(30.0, gt=0, description="time that one SQL statement may take")
    sql_memory_mb: int = Field(1_024, ge=256, description="memory of the process that answers a SQL statement at most")
    sql_at_once: int = Field(2, ge=1, description="SQL statements that run at the same time; others wait their turn")
    min_free_mb: int = Field(200, ge=0, description="free disk below which ingestion pauses instead of failing")


class Serving(Section):
    host: str = Field("127.0.0.1", description="address to bind; anything but loopback needs a token")
    port: int = Field(8642, ge=0, le=65535, description="port; 0 takes a free one")
    token: str | None = Field(None, description="bearer token; better set as FLYWHEEL__SERVING__TOKEN")
    tokens: dict[str, str] = Field(
        default_factory=dict, description="more tokens: name -> ROLES TOKEN, of collect, search, read, operate"
    )
    tokens_file: Path | None = Field(None, description="the same by line, NAME ROLES TOKEN; read anew when it changes")
    cors_origins: tuple[str, ...] = Field((), description="web pages that may send events, as https://shop.example")
    default_k: int = Field(10, ge=1, le=1_000, description="results of a search that names no k")
    page_log_timeout_ms: int = Field(250, ge=0, description="how long a search waits until its page is on the broker")
    acknowledge_timeout_ms: int = Field(10_000, ge=1, description="how long /v1/ubi/* waits for the broker before 503")
    cache_queries: int = Field(10_000, ge=0, description="query vectors kept in memory")


class Analytics(Section):
    publish_seconds: float = Field(60.0, gt=0, description="how often analytics/ is renewed")
    group: str = Field("", description="system group that may read analytics/; empty: nobody but the home's owner")


class Keeping(Section):
    feedback_days: float | None = Field(
        None, gt=0, description="age at which pages and events are deleted; unset: never"
    )
    letter_days: float = Field(30.0, gt=0, description="age at which unreadable messages are deleted")
    snapshot_days: float = Field(30.0, gt=0, description="age at which training snapshots are deleted")
    model_days: float | None = Field(
        None, gt=0, description="age at which models that serve no more are deleted; unset: never"
    )
    erasure_key_file: Path | None = Field(
        None, description="key of the log of erasures, outside the home; unset: ~/.config/flywheel/erasure.key"
    )


class Tracking(Section):
    enabled: bool = Field(False, description="record training runs in MLflow (needs the extra tracking)")
    uri: str = Field("", description="MLflow server, for example http://mlflow:5000; empty: mlflow.db in the home")
    experiment: str = Field("flywheel", description="name of the experiment there")
    wandb_project: str = Field("", description="write training runs for W&B below wandb/ too (needs the extra wandb)")
    wandb_send: bool = Field(
        False, description="send them, with WANDB_API_KEY and WANDB_BASE_URL as the library has it"
    )
    timeout_seconds: int = Field(10, ge=1, description="how long a server may take to answer; a run never waits longer")
