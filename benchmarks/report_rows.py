"""The rows of docs/figures.md: what each benchmark answers, which command asks it, which of its figures are told."""

from __future__ import annotations

from benchmarks.report_figures import COUNT, DECIMAL, FINE, PERCENT, PLAIN, POINTS, SECONDS, SMALL, TIMES, Figure, Row

LEARNED = (
    Figure("nDCG@10 of the base model", "base/all", POINTS),
    Figure("after the last round", "champion/all", POINTS),
    Figure("after the last round, by seed", "by_seed/*/champion/all", POINTS),
    Figure("unseen, base model", "base/unseen", POINTS),
    Figure("unseen, after the last round", "champion/unseen", POINTS),
    Figure("share of the gain of perfect labels on what was shown", "gain_fraction/mean", PERCENT),
    Figure("precision of the pairs, by round", "rounds/*/precision", PERCENT),
    Figure("clicks given up for exploration", "exploration/ctr_given_up", PERCENT),
)
LEARN = "python -m benchmarks.learning --beir scifact"
LEARNING_CLICKS = tuple(
    Row(f"learning-{clicks}", what, f"{LEARN} --clicks {clicks} --arms champion,perfect_shown --seeds 3", LEARNED)
    for clicks, what in (
        ("pbm", "learning from people who look at each rank with its own chance"),
        ("cascade", "learning from people who go down the page and stop"),
        ("trust", "learning from people who trust what stands high"),
    )
)
LEARNING_OTHER = (
    Row(
        "learning-without",
        "the gain with exploration beside the gain without",
        f"{LEARN} --clicks pbm --arms champion --explore --seeds 1",
        (
            Figure("gain with exploration over gain without", "exploration/gain_ratio", DECIMAL),
            Figure("clicks given up", "exploration/ctr_given_up", PERCENT),
        ),
    ),
    Row(
        "learning-adapter",
        "the tier adapter on the same clicks",
        f"{LEARN} --clicks pbm --tier adapter --arms champion,perfect_shown --seeds 2",
        LEARNED,
    ),
)

FORGOT = (
    Figure("lost since the end of its own phase, ours", "ours/forgetting/*/mean", POINTS),
    Figure("the same, naive tuning", "naive/forgetting/*/mean", POINTS),
    Figure("change before its own phase, ours", "ours/before_own_phase/*/mean", POINTS),
    Figure("gain of the newest domain, ours", "ours/newest_gain/mean", POINTS),
    Figure("gain of the newest domain, naive tuning", "naive/newest_gain/mean", POINTS),
)
FORGET = "python -m benchmarks.forgetting --data DIR --rounds 10 --seeds 3 --order"
FORGETTING = tuple(
    Row(f"forgetting-{order.partition(',')[0]}", f"ten rounds over {order}, in this order", f"{FORGET} {order}", FORGOT)
    for order in ("acord,cranfield,scifact", "scifact,acord,cranfield")
)

FULL = tuple(
    Row(
        f"full-{name}",
        f"the tier full on {name}'s documents that no training pair touches, beside the library's own recipe",
        f"python -m benchmarks.full --beir {name} --seeds 3",
        (
            Figure("nDCG@10 of the base model", "base", POINTS),
            Figure("gain, ours", "ours/gain", POINTS),
            Figure("gain, ours, by seed", "ours/gains/*", POINTS),
            Figure("gain, the library's", "stock/gain", POINTS),
        ),
    )
    for name in ("scifact", "cranfield")
)
TITLED = (Figure("nDCG@10 of the base model", "base", POINTS), Figure("gain, the library's", "gain/stock", POINTS))
TITLES = (Row("titles", "one document a query", "python -m benchmarks.titles --beir scifact", TITLED),)

HABITS = ("pbm", "cascade", "trust", "random", "low", "popular")
CLICK = "python -m benchmarks.clicks --beir scifact"
PAIRS = (
    Row(
        "clicks",
        "clicks to pairs without training, two rounds of 2,000 sessions",
        f"{CLICK} --habits pbm,cascade,trust,random --attacks low,popular --sessions 2000 --rounds 2 --seeds 1",
        tuple(Figure(f"{habit}: precision by round", f"habits/{habit}/rounds/*/precision", PERCENT) for habit in HABITS)
        + tuple(
            Figure(f"{habit}: queries where the colluders' document became a positive", key, COUNT)
            for habit in HABITS[-2:]
            for key in (f"habits/{habit}/wrong_target_pairs",)
        ),
    ),
    Row(
        "clicks-attacks",
        "colluders, one session in twenty, in seven ways",
        f"{CLICK} --habits pbm --attacks low,popular,persistent,polite,scattered,focused,obscure --seeds 4",
        (
            Figure("queries with a wrong positive", "habits/*/wrong_target_pairs", COUNT),
            Figure("queries that showed it", "habits/*/target_queries", COUNT),
        ),
    ),
)

RAN = (
    Figure("nDCG@10 of the base model", "base/ndcg@10/all", POINTS),
    Figure("of the champion at the end", "champion/ndcg@10/all", POINTS),
    Figure("promotions", "promotions", COUNT),
    Figure("lost", "lost", COUNT),
    Figure("stored twice", "doubled", COUNT),
    Figure("kills", "kills", COUNT),
)
RUN = "python -m benchmarks.loop --beir scifact --clicks"
LOOP = (
    Row("loop-pbm", "the whole loop with its gate", f"{RUN} pbm --rounds 4 --sessions 8000 --seed 0", RAN),
    Row("loop-kill", "the same, killed 20 times with SIGKILL", f"{RUN} pbm --seed 0 --kill 20 --kill-every 25", RAN),
    Row("loop-random", "the same with random clicks", f"{RUN} random --seed 0", RAN),
)

ASK = "python -m benchmarks.evaluator"
EVALUATOR = (
    Row(
        "evaluator-aa",
        "1,000 comparisons of equal arms, looked at daily for 60 days",
        f"{ASK} aa",
        (
            Figure("promoted", "false_promotion_rate", PERCENT),
            Figure("a test by page would promote", "naive_rate", PERCENT),
        ),
    ),
    Row(
        "evaluator-year",
        "a year of weekly challengers",
        f"{ASK} year",
        (
            Figure("false promotions a year where none is better", "false_promotions_per_year", DECIMAL),
            Figure("better ones found of those that went live", "found_share", PERCENT),
            Figure("weeks to find one, median", "median_weeks", DECIMAL),
        ),
    ),
    Row(
        "evaluator-interleaving",
        "users that interleaving needs beside a split",
        f"{ASK} interleaving --seeds 3",
        (
            Figure("users for each one of a split", "by_seed/*/users_ratio", DECIMAL),
            Figure("power with them", "by_seed/*/power_interleaving", DECIMAL),
        ),
    ),
    Row(
        "evaluator-bandit",
        "click rates from another policy's log, 6 known truths (Open Bandit Dataset)",
        f"{ASK} bandit",
        (
            Figure("truth inside the interval", "inside", COUNT),
            Figure("refused", "refused", COUNT),
            Figure("wrong", "wrong", COUNT),
        ),
    ),
    Row(
        "evaluator-reference",
        "effects, intervals and p-values beside gbstats and scipy",
        f"{ASK} reference",
        (
            Figure("largest relative difference", "max_relative_difference", SMALL),
            Figure("sequences narrower than a fixed interval", "sequences_narrower", COUNT),
            Figure("comparisons", "runs", COUNT),
        ),
    ),
    Row(
        "arms",
        "`evaluate --arms --once` on 2,000 logs each: equal arms, and gains and losses of z = 2.5, at alpha 0.05",
        "python -m benchmarks.arms",
        (
            Figure("equal arms promoted, one page a user", "one page/equal/promote", PERCENT),
            Figure("equal arms rejected, one page a user", "one page/equal/reject", PERCENT),
            Figure("equal arms promoted, few users see most pages", "heavy/equal/promote", PERCENT),
            Figure("power for gains beside the plain test's, one page a user", "one page/power_gain", PERCENT),
            Figure("power for losses, one page a user", "one page/power_loss", PERCENT),
            Figure("power for gains, few users see most pages", "heavy/power_gain", PERCENT),
            Figure("gains held back by the rule on the busiest", "heavy/held_back", PERCENT),
        ),
    ),
    Row(
        "evaluator-srm",
        "splits of 200,000 users that are off by one percentage point, and clean ones",
        f"{ASK} srm",
        (
            Figure("caught", "caught", PERCENT),
            Figure("false alarms, one look", "false_alarms", PERCENT),
            Figure("false alarms, daily for four weeks", "false_alarms_watched", PERCENT),
        ),
    ),
    Row(
        "evaluator-challengers",
        "challengers of each kind before the gate that should tell",
        f"{ASK} challengers",
        (
            Figure("worse ones rejected", "challengers/worse/reject", PERCENT),
            Figure("better ones promoted, judged queries", "challengers/better/promote", PERCENT),
            Figure("better ones promoted, live", "challengers/better, live/promote", PERCENT),
            Figure("clickbait promoted", "challengers/clickbait/promote", PERCENT),
            Figure("slow ones promoted", "challengers/slow/promote", PERCENT),
        ),
    ),
    Row(
        "evaluator-variants",
        "equal arms in worlds that strain the tests",
        f"{ASK} variants",
        (
            Figure("promoted in the worst world", "worst_promoted", PERCENT),
            Figure("rejected in the worst world", "worst_rejected", PERCENT),
        ),
    ),
    Row(
        "evaluator-stream",
        "weekly challengers on one golden set, none better",
        f"{ASK} stream",
        (
            Figure("false promotions a year", "false_promotions_per_year", DECIMAL),
            Figure("the bound", "bound", DECIMAL),
        ),
    ),
    Row(
        "field",
        "1,000 turns that judge the best of six, none better",
        "python -m benchmarks.field",
        (
            Figure("false promotions", "promoted", COUNT),
            Figure("that the levels allow on average", "allowed", DECIMAL),
            Figure("false promotions, if chosen by the gate's own queries", "leaked/promoted", COUNT),
        ),
    ),
    Row(
        "evaluator-scale",
        "shadow and verdict over 1,000,000 stored pages",
        f"{ASK} scale",
        (
            Figure("time", "seconds", SECONDS),
            Figure("memory at most, MB", "peak_mb", COUNT),
            Figure("over a quarter of the pages, MB", "peak_mb_quarter", COUNT),
        ),
    ),
)

HURT = (Figure("p99 of a search, times quiet", "p99_ratio", DECIMAL), Figure("MB grown", "daemon_grown_mb", COUNT))
SPEED = (
    Row("hostile", "under the worst requests, 60 s each", "python -m benchmarks.hostile --seconds 60", HURT),
    Row(
        "pairs",
        "10 million impressions to training pairs",
        "python -m benchmarks.pairs --impressions 10000000",
        (
            Figure("time", "seconds", SECONDS),
            Figure("processor", "cpu_seconds", SECONDS),
            Figure("memory at most, GB", "peak_gb", DECIMAL),
            Figure("pairs", "pairs", COUNT),
        ),
    ),
    Row(
        "ingest",
        "events from Apache Kafka into the database",
        "python -m benchmarks.ingest --events 200000",
        (
            Figure("stored a second", "ingested_per_second", COUNT),
            Figure("the client's own polling, a second", "raw_per_second", COUNT),
            Figure("bytes of an event", "bytes", COUNT),
        ),
    ),
    Row("fuzz", "mutated messages", "python -m benchmarks.fuzz", (Figure("read", "decoder/messages", COUNT),)),
    Row(
        "training",
        "training the query tower and the adapter, beside the library's own trainer on the same pairs",
        "python -m benchmarks.training --beir scifact --seeds 1",
        (
            Figure("pairs a second, ours over the library's, fp32", "ratio/fp32", TIMES),
            Figure("the same, bf16", "ratio/bf16", TIMES),
            Figure("nDCG@10 after equal time, ours, fp32", "ndcg_at_equal_time/fp32/ours", POINTS),
            Figure("nDCG@10 after equal time, the library's, fp32", "ndcg_at_equal_time/fp32/stock", POINTS),
        ),
    ),
)

REAL = (
    Row(
        "real-promises",
        "promises from 100 judged queries of a real log, tested on all others, beside a logistic on four raw columns",
        "python -m benchmarks.real promises --logs real",
        (
            Figure("kept within 2 points, asked 0.95, of 20", "asked_0.95/ours/kept", COUNT),
            Figure("kept within 2 points, asked 0.9, of 20", "asked_0.9/ours/kept", COUNT),
            Figure("mean level promised, asked 0.95", "asked_0.95/ours/level", PERCENT),
            Figure("right, asked 0.9", "asked_0.9/ours/right_all", PERCENT),
            Figure("pairs, asked 0.9", "asked_0.9/ours/pairs_all", COUNT),
            Figure("right, the logistic", "asked_0.9/logistic/right_all", PERCENT),
            Figure("pairs, the logistic", "asked_0.9/logistic/pairs_all", COUNT),
        ),
    ),
    Row(
        "real-order",
        "order at equal rank and exposure against raw CTR, and log likelihood of held-out people, on a real log",
        "python -m benchmarks.real order --logs real",
        (
            Figure("AUC across queries, ours", "across_queries/clicks_and_rank/value", POINTS),
            Figure("AUC across queries, CTR", "across_queries/ctr/value", POINTS),
            Figure("lower end of the difference", "across_queries/clicks_and_rank/low", POINTS),
            Figure("lower end within queries", "within_queries/clicks_and_rank/low", POINTS),
            Figure("log likelihood a page above UBM", "ubm/ours_minus_it", FINE),
            Figure("its lower end", "ubm/low", FINE),
        ),
    ),
    Row(
        "real-week",
        "what 3,000 pages of a real log teach, and the same after exchanging clicks within query and rank",
        "python -m benchmarks.real week --logs real",
        (
            Figure("draws of 10 that teach", "taught", COUNT),
            Figure("half the clicked pairs or more, no less right", "enough", COUNT),
            Figure("that teach after the exchange", "taught_exchanged", COUNT),
        ),
    ),
    Row(
        "real-alarms",
        "false alarms of the test of agreement at 0.5 %, of 1,000, and of 50 whole fits",
        "python -m benchmarks.real alarms --logs real",
        (
            Figure("clicks exchanged within query and rank", "exchanged", COUNT),
            Figure("browsing that differs by query", "browsing", COUNT),
            Figure("fits that teach anything", "that_teach", COUNT),
        ),
    ),
    Row(
        "real-learning",
        "gain in nDCG@10 by human grades from the clicks of a small real log, beside every click as a positive",
        "python -m benchmarks.real learning --logs real --log trec",
        (
            Figure("other half of the sessions, ours", "ways/ours/held_out/gain", PLAIN),
            Figure("its lower end, 90 %", "ways/ours/held_out/low_90", PLAIN),
            Figure("every click", "ways/every_click/held_out/gain", PLAIN),
            Figure("topics that never trained, ours", "ways/ours/unseen/gain", PLAIN),
            Figure("every click", "ways/every_click/unseen/gain", PLAIN),
            Figure("clicks of other pages", "ways/random/held_out/gain", PLAIN),
        ),
    ),
)

GROUPS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    ("Clicks of real people", REAL),
    ("What is learned", LEARNING_CLICKS + LEARNING_OTHER + FORGETTING + FULL + TITLES + PAIRS),
    ("The whole loop", LOOP),
    ("What a verdict is worth", EVALUATOR),
    ("Speed", SPEED),
)
