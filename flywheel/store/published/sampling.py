"""SQL text that draws a probability sample of what the latest run learned from clicks. It runs nothing.

`flywheel.stats.survey` makes an estimate of the answers.
"""

from __future__ import annotations

# The population: positives that clicks made, of documents that can still be read. Strata are bands of chance by bands
# of mean rank. A stratum's share of the sample grows with its size and with how undecided its pairs are (Neyman, JRSS
# 1934), at least two each. Within a stratum the lots decide, so that every pair has the same chance, `inclusion`. Lots
# are hashes: the same seed draws the same sample again. Tasks come in the order of the lots too: whoever stops half way
# has answered a sample of each stratum.
_SAMPLE = """
with run as (select run_id from training_runs semi join pairs using (run_id) order by started_at desc limit 1),
learned as (
    select run_id, query_key, query, doc_id, posterior from pairs semi join run using (run_id)
    where label = 'positive' and source <> 'explicit' and posterior is not null
), shown as (
    select query_key, doc_id, avg(rank) as rank from (
        select query_key, unnest(hit_ids) as doc_id, unnest(coalesce(ranks, range(1, len(hit_ids) + 1))) as rank
        from teaching_pages semi join learned using (query_key) where len(hit_ids) > 0
    ) group by query_key, doc_id
), population as (
    select l.*, d.title, d.text,
           case when posterior >= 0.97 then '0.97 to 1' when posterior >= 0.9 then '0.9 to 0.97'
                when posterior >= 0.7 then '0.7 to 0.9' else 'below 0.7' end
           || ', ' || case when rank < 1.5 then 'rank 1' when rank < 3.5 then 'ranks 2 and 3' else 'lower ranks' end
           as stratum, md5({seed:d} || '|' || query_key || '|' || doc_id) as lot
    from learned l join documents d using (doc_id) left join shown s using (query_key, doc_id) where not d.deleted
), strata as (
    select stratum, count(*) as stratum_size, sqrt(avg(posterior) * (1 - avg(posterior)) + 0.01) as spread
    from population group by stratum
), sized as (
    select *, least(stratum_size, greatest(2, round({limit:d} * stratum_size * spread
                                                    / (sum(stratum_size * spread) over ()))))::bigint as drawn,
           sum(stratum_size) over ()::bigint as population
    from strata
)
select query, doc_id, title, text, null::double as grade, run_id || ' {seed:d}' as sample, stratum, stratum_size,
       population, drawn / stratum_size as inclusion
from population join sized using (stratum)
qualify row_number() over (partition by stratum order by lot) <= drawn order by lot
"""


def sample(limit: int, seed: int = 0) -> str:
    """A sample of about `limit` pairs: a few more where there are many strata, fewer where there are fewer pairs.

    Columns: query, doc_id, title, text, grade (to be filled in), sample, stratum, stratum_size and population (pairs),
    inclusion (the pair's chance to be drawn).
    """
    return _SAMPLE.format(limit=limit, seed=seed)
