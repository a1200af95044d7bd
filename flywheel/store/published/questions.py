"""SQL text that commands send through `Operations.sql`, to a running daemon or to the home itself. It runs nothing.

Only whole numbers and plain names become part of a text, because such a statement takes no parameters.
"""

from __future__ import annotations

from collections.abc import Mapping

from flywheel.gates.logged.cells import MISSING
from flywheel.gates.logged.logs import STRAY, TAIL
from flywheel.store.published.labelling import TASKS, labels

SIGNALS: Mapping[str, str] = {"ctr": "clicked", "satisfied_ctr": "satisfied"}
"""Live metric -> the column of a page that says whether it had the signal."""

# Who was shown what in which test. Spellings of one arm are one arm, and a word for nothing is none. An arm that hardly
# anybody met is a slip of the log. What did not run beside the arm that began last is no part of its test: an arm's
# time is that of its middle 98 % of pages, to the hour. Where an arm has more than a few pages outside the time that
# all arms share, only that time counts. At most so many pages of a person count.
_TAGGED = """
with done as (
    select query_id, bool_or(clicked) as clicked, bool_or(worth_ms >= {satisfied_ms:d}) as satisfied
    from satisfied group by query_id
), pages as (
    select coalesce(experiment_id, 'all') as experiment,
           regexp_replace(trim(coalesce(queries.arm, model_version)), '\\s+', ' ', 'g') as spelt, lower(spelt) as arm,
           coalesce(user_key, client_key, session_id, query_id) as person,
           coalesce(user_key, client_key, session_id) is null as nobody, ts, date_trunc('hour', ts) as hour, query_id,
           coalesce(clicked, false)::int as clicked, coalesce(satisfied, false)::int as satisfied
    from queries left join done using (query_id)
), known as (
    select * from pages where arm is not null and arm != 'interleaved' and not list_contains({missing}, arm)
), spans as (
    select experiment, arm, arg_min(spelt, ts) as name,
           list(distinct spelt) as spellings, count(*) as pages, count(distinct person) as people,
           quantile_disc(hour, 0.01) as first, quantile_disc(hour, 0.99) as last
    from known group by experiment, arm
), sized as (
    select *, people < {stray} * max(people) over (partition by experiment) as stray from spans
), newest as (
    select experiment, max([first, last]) as latest from sized where not stray group by experiment
), placed as (
    select s.*, not stray and (last < latest[1] or first > latest[2]) as apart
    from sized s join newest using (experiment)
), windows as (
    select experiment, max(first) as first, min(last) as last from placed where not stray and not apart
    group by experiment
), beside as (
    select k.* replace (p.name as arm), k.hour between w.first and w.last as shared
    from known k join placed p using (experiment, arm) join windows w using (experiment)
    where not p.stray and not p.apart
), tails as (
    select experiment, max(outside) as outside
    from (select experiment, count(*) filter (not shared) / count(*) as outside from beside group by experiment, arm)
    group by experiment
), tagged as (
    select b.* from beside b join tails t using (experiment) where b.shared or t.outside <= {tail}
    qualify row_number() over (partition by experiment, person order by ts, query_id) <= {cap:d}
)
"""

# One row for each experiment and arm: the sums over people that `ArmSums` takes. A person who met two arms of an
# experiment is in none of them. Feedback belongs to its page by id, whatever the clocks say.
_ARM_SUMS = """, begun as (
    select experiment, min(ts) as start from tagged group by experiment
), earlier as (
    select b.experiment, p.person, count(*) as x, sum(p.clicked) as clicked, sum(p.satisfied) as satisfied
    from begun b join pages p on p.ts < b.start group by b.experiment, p.person
), usual as (
    select experiment, sum(clicked) / sum(x) as ctr, sum(satisfied) / sum(x) as satisfied_ctr
    from earlier group by experiment
), people as (
    select experiment, arm, person, bool_and(nobody) as nobody, count(*)::double as x,
           sum(clicked)::double as clicked, sum(satisfied)::double as satisfied,
           count(*) over (partition by experiment, person) as arms
    from tagged group by experiment, arm, person
), adjusted as (
    select p.*, coalesce(e.clicked - u.ctr * e.x, 0) as ctr_before,
           coalesce(e.satisfied - u.satisfied_ctr * e.x, 0) as satisfied_ctr_before,
           quantile_cont(p.x, 0.95) over (partition by experiment) as most
    from people p left join earlier e using (experiment, person) left join usual u using (experiment)
), units as (
    select *, true as calm from adjusted where arms = 1
    union all
    select *, false from adjusted where arms = 1 and x <= most
)
select experiment, arm, calm, count(person) as users, coalesce(sum(x), 0) as pages,
       coalesce(sum(x * x), 0) as pages_squared,
       coalesce(sum(case when nobody then x else 0 end), 0) as anonymous_pages,
       {columns},
       (select count(distinct person) from adjusted a where a.experiment = known.experiment and arms > 1) as crossed,
       (select coalesce(sum(x) filter (arms > 1) / sum(x), 0) from adjusted a where a.experiment = known.experiment)
           as crossed_pages
from (select distinct experiment, arm, calm from people, (values (true), (false)) as _(calm)) known
     left join units using (experiment, arm, calm)
group by experiment, arm, calm order by experiment, arm
"""
_ARM_NOTES = """, counted as (select experiment, arm as name, count(*) as pages from tagged group by experiment, arm)
select p.experiment, name, p.spellings, p.people, p.pages, p.stray, p.apart, p.pages - coalesce(c.pages, 0) as outside
from placed p left join counted c using (experiment, name) order by p.experiment, name
"""
_ARM_COLUMNS = """
       coalesce(sum({value}), 0) as {name}_value, coalesce(sum({value} * {value}), 0) as {name}_value_squared,
       coalesce(sum({value} * x), 0) as {name}_value_pages, coalesce(sum({name}_before), 0) as {name}_before,
       coalesce(sum({name}_before * {name}_before), 0) as {name}_before_squared,
       coalesce(sum({value} * {name}_before), 0) as {name}_value_before,
       coalesce(sum(x * {name}_before), 0) as {name}_pages_before"""

# One row: sums over people of pages x and of pages with the signal y, as `ArmSums` takes them, and the latest event
# time.
_PEOPLE_SUMS = """
with pages as (
    select coalesce(user_key, client_key, session_id) as person, query_id, ts from queries
), done as (
    select query_id, bool_or(clicked) as clicked, bool_or(worth_ms >= {satisfied_ms:d}) as satisfied
    from satisfied group by query_id
), people as (
    select person, count(*)::double as x, max(ts) as last_seen,
           sum(coalesce(clicked, false)::int)::double as clicked,
           sum(coalesce(satisfied, false)::int)::double as satisfied
    from pages left join done using (query_id) where person is not null group by person
)
select count(*) as users, sum(x) as pages, sum(x * x) as pages_squared,
       sum(clicked) as clicked, sum(clicked * clicked) as clicked_squared, sum(clicked * x) as clicked_pages,
       sum(satisfied) as satisfied, sum(satisfied * satisfied) as satisfied_squared,
       sum(satisfied * x) as satisfied_pages,
       count(*) filter (last_seen > (select max(ts) from pages) - interval 7 days) as weekly_users,
       count(*) filter (clicked > 0 and last_seen > (select max(ts) from pages) - interval 7 days) as weekly_clickers,
       (select epoch_ms(max(ts)) from pages) as now_ms
from people
"""

OFFLINE_SPREADS = """
select metric, champion_users as queries, (high - low) / 2 / critical * sqrt(champion_users) as spread
from ab_outcomes where stage = 'offline' and part = 'all' and critical > 0 and high > low
qualify row_number() over (partition by metric order by updated_at desc) = 1
"""
"""How much one judged query's difference varied in the latest offline verdict on each metric, and over how many."""

HELD_OUT = """
SELECT e.version, o.part, o.champion_sum / o.champion_pages AS champion,
    o.challenger_sum / o.challenger_pages AS challenger, o.effect, o.low, o.high,
    o.champion_pages::BIGINT AS queries
FROM ab_outcomes o JOIN experiments e USING (experiment_id)
WHERE o.part = 'feedback' OR o.part LIKE 'feedback %' ORDER BY e.created_at DESC, o.part
"""
"""What the offline gate found on held-out feedback, by version and part, the newest first."""

# One row for each page, the newest first: its documents down to rank 50, and those of them that were clicked. What
# counts as a click is what counts for evidence: a dwell, a cart or a purchase implies one. People that the latest run
# left out as bots are left out here too, as are sorted pages and paid places. `pages` says how many there are in all.
_PAGES = """
with told as (
    select query_id, query_key, ts, coalesce(user_key, client_key, session_id, query_id) as person, hit_ids, ranks,
           sponsored, grid
    from teaching_pages where query_key <> ''
), logged as (
    select query_id, list(doc_id order by rank, doc_id) as hit_ids, list(rank order by rank, doc_id) as ranks
    from (select query_id, doc_id, min(rank) as rank from feedback
          where kind = 'impression' and rank between 1 and 1000 and doc_id is not null group by query_id, doc_id)
         join told using (query_id) where teaches(sponsored, doc_id)
    group by query_id
), shown as (
    select query_id, query_key, ts, person, grid, hit_ids, ranks from told where len(hit_ids) > 0
    union all
    select query_id, query_key, ts, person, grid, l.hit_ids, l.ranks
    from told t join logged l using (query_id) where coalesce(len(t.hit_ids), 0) = 0
), bots as (
    select user_key from excluded_users
    where run_id = (select run_id from training_runs semi join pairs using (run_id) order by started_at desc limit 1)
), clicks as (
    select query_id, list(distinct doc_id) as clicked from feedback
    where kind in ('click', 'dwell', 'add_to_cart', 'purchase') and doc_id is not null group by query_id
)
select query_key, person, epoch_ms(ts) as ts_ms, hit_ids[:50] as documents, ranks[:50] as ranks,
       coalesce(clicked, []) as clicked, grid, f.query_id is not null as fair, count(*) over () as pages
from shown left join clicks using (query_id) anti join bots on person = user_key
     left join (select query_id from preferences) f using (query_id)
order by ts desc, query_id limit {limit:d}
"""
_PREFERENCES = """
select query_key, upper, lower, count(*) filter (lower_clicked and not upper_clicked) as preferred, count(*) as pages
from preferences where person is null or person not in (
    select user_key from excluded_users
    where user_key is not null
      and run_id = (select run_id from training_runs semi join pairs using (run_id) order by started_at desc limit 1)
) group by query_key, upper, lower order by pages desc, query_key, upper, lower limit {limit:d}
"""
_LEARNED = """
select query_key, doc_id, posterior, label from pairs
where run_id = (select run_id from training_runs semi join pairs using (run_id) order by started_at desc limit 1)
  and source = 'clicks' and posterior is not null
order by impressions desc, query_key, doc_id limit {limit:d}
"""


def arm_sums(*, satisfied_ms: int, cap: int) -> str:
    """Sums by experiment, arm and `calm` (without the busiest), of at most `cap` pages a person in each experiment.

    Columns: experiment, arm, calm, users, pages, pages_squared, anonymous_pages, crossed, crossed_pages, and for each
    metric of `SIGNALS` value, value_squared, value_pages, before, before_squared, value_before and pages_before under
    its name.
    """
    columns = ",".join(_ARM_COLUMNS.format(name=name, value=value) for name, value in SIGNALS.items())
    return _tagged(satisfied_ms, cap) + _ARM_SUMS.format(columns=columns)


def arm_notes(*, satisfied_ms: int, cap: int) -> str:
    """What `arm_sums` merged or left out: experiment, name, spellings, people, pages, stray, apart, outside (pages)."""
    return _tagged(satisfied_ms, cap) + _ARM_NOTES


def _tagged(satisfied_ms: int, cap: int) -> str:
    missing = "[" + ", ".join(f"'{word}'" for word in sorted(MISSING)) + "]"
    return _TAGGED.format(satisfied_ms=satisfied_ms, cap=cap, missing=missing, stray=STRAY, tail=TAIL).rstrip()


def people_sums(*, satisfied_ms: int) -> str:
    """Sums over all people so far, in one row.

    Columns: users, pages, pages_squared, weekly_users, now_ms, and for each column of `SIGNALS` its sum, `_squared` and
    `_pages`.
    """
    return _PEOPLE_SUMS.format(satisfied_ms=satisfied_ms)


def pages_seen(limit: int) -> str:
    """The `limit` newest pages that teach: query_key, person, ts_ms, documents, ranks (null: 1, 2, ...), clicked, grid,
    fair (two neighbours stood in a random order), pages (all)."""
    return _PAGES.format(limit=limit)


def preferences(limit: int) -> str:
    """What people preferred of neighbours in a random order, in at most `limit` rows.

    Columns: query_key, upper, lower, preferred (pages with a click on the lower alone), pages.
    """
    return _PREFERENCES.format(limit=limit)


def pairs_learned(limit: int) -> str:
    """What the latest run with pairs concluded from clicks: query_key, doc_id, posterior, label."""
    return _LEARNED.format(limit=limit)


def table(name: str, limit: int | None = None) -> str:
    """All rows of a table, or `limit` of them.

    Raises:
        ValueError: `name` is no plain name.
    """
    if not name.replace("_", "").isalpha():
        raise ValueError(f"{name!r} is no table")
    return f"select * from {name}" + (f" limit {limit:d}" if limit else "")  # noqa: S608 - a plain name, see above


def exported(what: str, limit: int | None) -> str:
    """The statement whose answer is exported. `what` is a table of ours, or `labels` for pairs worth a judgement.

    Raises:
        ValueError: `what` is no plain name. Whether there is such a table, the statement itself finds out.
    """
    return labels(limit or TASKS) if what == "labels" else table(what, limit)
