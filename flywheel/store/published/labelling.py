"""SQL text that chooses which pairs people should judge next. It runs nothing."""

from __future__ import annotations

TASKS = 500
"""Nobody grades more in one go."""

# The most informative pairs first. Information is how undecided the evidence is, times the pages that the answer
# concerns. Undecided means the entropy of the posterior (uncertainty sampling: Lewis & Gale 1994, "A sequential
# algorithm for training text classifiers"). An answer counts up to twice where champion and challenger place the
# document differently, by their nDCG discounts, because it tells them apart. A query's n-th pair counts 1/n, so that no
# query takes all the places. Judged pairs are left out. A document that no page ever showed has the click model's first
# guess, 0.1.
_LABELS = """
with pages as (select query_key, count(*) as pages from queries group by query_key),
run as (select run_id from training_runs semi join pairs using (run_id) order by started_at desc limit 1),
shadow as (
    select experiment_id from experiments join aliases using (version) semi join shadow_progress using (experiment_id)
    where alias = 'challenger' order by created_at desc limit 1
),
ranked as (select * from shadow_rankings semi join shadow using (experiment_id)),
ours as (
    select query_key, query, unnest(champion) as doc_id, generate_subscripts(champion, 1) as champion_rank from ranked
),
theirs as (
    select query_key, query, unnest(challenger) as doc_id, generate_subscripts(challenger, 1) as challenger_rank
    from ranked
),
placed as (select * from ours full join theirs using (query_key, query, doc_id)),
known as (select query_key, query, doc_id, posterior, impressions, clicks from pairs semi join run using (run_id)),
judged as (
    select query_key, doc_id from golden_judgements join golden_queries using (set_version, query_id)
),
candidates as (
    select query_key, coalesce(k.query, p.query) as query, doc_id, posterior, impressions, clicks, champion_rank,
           challenger_rank, greatest(1e-9, least(1 - 1e-9, coalesce(posterior, 0.1))) as likely,
           abs(coalesce(1 / log2(1 + champion_rank), 0) - coalesce(1 / log2(1 + challenger_rank), 0)) as disagreement
    from known k full join placed p using (query_key, doc_id) anti join judged using (query_key, doc_id)
),
scored as (
    select *, (1 + disagreement) * coalesce(pages, 1)
              * -(likely * log2(likely) + (1 - likely) * log2(1 - likely)) as information
    from candidates left join pages using (query_key)
)
select s.query, doc_id, d.title, d.text, s.posterior, s.impressions, s.clicks, s.pages, s.champion_rank,
       s.challenger_rank
from scored s join documents d using (doc_id) where not d.deleted
order by information / row_number() over (partition by s.query_key order by information desc, doc_id) desc, s.query,
         doc_id
"""


def labels(limit: int) -> str:
    """The `limit` pairs that are most worth a judgement."""
    return f"{_LABELS.strip()} limit {limit:d}"
