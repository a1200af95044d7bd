"""Every alert rings for what it is for, and none in an hour in which nothing happens: asked of Prometheus itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.test_deploy import exposition

ROOT = Path(__file__).parents[1]
RULES = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text("utf-8"))
ALERTS = [rule["alert"] for group in RULES["groups"] for rule in group["rules"]]
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is absent: apt-get install prometheus")

SEARCH = '{route="/v1/search",method="POST",status="200"}'
FAILED = '{route="/v1/search",method="POST",status="503"}'
# an hour in which all is well, a value a minute
HEALTHY = {
    'up{job="flywheel"}': "1x1600",
    "flywheel_up": "1x1600",
    "flywheel_ready": "1x1600",
    "flywheel_ingest_stalled_seconds": "0x1600",
    'flywheel_ingest_lag_messages{topic="ubi.events",partition="0"}': "0 40 3 20000 10 0x1600",
    "flywheel_disk_free_bytes": "9e9x1600",
    "flywheel_disk_needed_bytes": "2e8x1600",
    'flywheel_problem{part="experiment"}': "_x1600",
    'flywheel_problem{part="index"}': "_ _ 1 _x1600",
    "flywheel_analytics_age_seconds": "60x1600",
    "flywheel_pages_lost_total": "0x1600",
    "flywheel_ingest_dead_letters_total": "0+1x1600",
    "flywheel_ingest_set_aside_total": "0x1600",
    "flywheel_retraining_paused": "0x1600",
    f"flywheel_http_requests_total{SEARCH}": "0+600x1600",
    f"flywheel_http_requests_total{FAILED}": "0+1x1600",
    'flywheel_http_request_seconds_bucket{route="/v1/search",le="0.1"}': "0+590x1600",
    'flywheel_http_request_seconds_bucket{route="/v1/search",le="1.0"}': "0+600x1600",
    'flywheel_http_request_seconds_bucket{route="/v1/search",le="+Inf"}': "0+600x1600",
    "flywheel_experiments_void": "0x1600",
    "flywheel_experiments_rolled_back": "0x1600",
    "flywheel_experiments_queued": "1x1600",
}
# what happens, and after how many minutes the alert must be ringing
PROVOKED: dict[str, tuple[dict[str, str], int]] = {
    "FlywheelDown": ({'up{job="flywheel"}': "1x10 0x60"}, 20),
    "FlywheelStatusUnreadable": ({"flywheel_up": "1x10 0x60"}, 20),
    "FlywheelNotReady": ({"flywheel_ready": "1x10 0x60"}, 30),
    "FlywheelIngestStalled": ({"flywheel_ingest_stalled_seconds": "0x10 60+60x60"}, 20),
    "FlywheelRecordSetAside": ({"flywheel_ingest_set_aside_total": "0x10 1x60"}, 20),
    "FlywheelLagGrows": (
        {'flywheel_ingest_lag_messages{topic="ubi.events",partition="0"}': "0x10 5000+5000x60"},
        40,
    ),
    "FlywheelDiskLow": ({"flywheel_disk_free_bytes": "9e9x10 3e8x60"}, 20),
    "FlywheelPartInTrouble": ({'flywheel_problem{part="analytics"}': "_x10 1x60"}, 30),
    "FlywheelAnalyticsStale": ({"flywheel_analytics_age_seconds": "60x10 120+60x60"}, 40),
    "FlywheelPagesLost": ({"flywheel_pages_lost_total": "0x10 3x60"}, 15),
    "FlywheelDeadLetters": ({"flywheel_ingest_dead_letters_total": "0x10 0+100x60"}, 20),
    "FlywheelPaused": ({"flywheel_retraining_paused": "0x10 1x1600"}, 1_500),
    "FlywheelSearchFails": ({f"flywheel_http_requests_total{FAILED}": "0x10 0+60x60"}, 30),
    "FlywheelSearchSlow": (
        {'flywheel_http_request_seconds_bucket{route="/v1/search",le="0.1"}': "0+590x10 5900+300x60"},
        40,
    ),
    "FlywheelExperimentVoid": ({"flywheel_experiments_void": "0x10 1x60"}, 15),
    "FlywheelRolledBack": ({"flywheel_experiments_rolled_back": "0x10 1x60"}, 15),
    "FlywheelQueueLong": ({"flywheel_experiments_queued": "1x10 9x1600"}, 1_500),
}


def _ringing(tmp_path: Path, cases: list[tuple[dict[str, str], int, str, int]]) -> subprocess.CompletedProcess[str]:
    """Ask promtool: after `minutes` with these series, does `expression` count so many alerts?"""
    tests: list[dict[str, Any]] = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in {**HEALTHY, **changed}.items()],
            "promql_expr_test": [
                {
                    "expr": f"count({expression})",
                    "eval_time": f"{minutes}m",
                    "exp_samples": [{"labels": "{}", "value": count}] if count else [],
                }
            ],
        }
        for changed, minutes, expression, count in cases
    ]
    told = {"rule_files": [str(ROOT / "deploy/alerts.yml")], "evaluation_interval": "1m", "tests": tests}
    file = tmp_path / "rules.test.yml"
    file.write_text(yaml.safe_dump(told))
    return subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False)


def test_no_alert_is_left_untried() -> None:
    """An alert that is added is provoked here too."""
    assert sorted(PROVOKED) == sorted(ALERTS)


@needs_promtool
def test_each_alert_rings_for_what_it_is_for(tmp_path: Path) -> None:
    """On top of a healthy hour each fault makes its own alert fire, and no other but for what follows from it."""
    firing = 'ALERTS{{alertname="{}",alertstate="firing"}}'
    cases = [(series, minutes, firing.format(alert), 1) for alert, (series, minutes) in PROVOKED.items()]
    others = 'ALERTS{{alertname!="{}",alertstate="firing"}}'
    cases += [(series, minutes, others.format(alert), 0) for alert, (series, minutes) in PROVOKED.items()]
    asked = _ringing(tmp_path, cases)
    assert asked.returncode == 0, asked.stdout + asked.stderr


@needs_promtool
def test_a_healthy_hour_is_silent(tmp_path: Path) -> None:
    """Nothing fires in an hour with a burst of messages, a part that failed once and a few failed searches."""
    cases = [({}, minutes, 'ALERTS{alertstate="firing"}', 0) for minutes in (5, 15, 30, 60)]
    asked = _ringing(tmp_path, cases)
    assert asked.returncode == 0, asked.stdout + asked.stderr


@needs_promtool
def test_prometheus_is_content_with_what_we_say(tmp_path: Path) -> None:
    """promtool has no complaint about names, types and helps of the metrics, nor about rules and panels."""
    metrics = subprocess.run(
        [str(PROMTOOL), "check", "metrics"], input=exposition(), capture_output=True, text=True, check=False
    )
    assert (metrics.returncode, metrics.stdout + metrics.stderr) == (0, "")
    rules = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(ROOT / "deploy/alerts.yml")], capture_output=True, text=True, check=False
    )
    assert rules.returncode == 0, rules.stdout + rules.stderr
    dashboard = json.loads((ROOT / "deploy/grafana/dashboards/flywheel.json").read_text("utf-8"))
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    file = tmp_path / "panels.yml"
    recorded = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(panels)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    checked = subprocess.run([str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_healthy_series_are_those_of_a_daemon() -> None:
    """What the alerts are tried on are names that a daemon's own /metrics has."""
    there = {line.split("{")[0].split(" ")[0] for line in exposition().splitlines() if not line.startswith("#")}
    assert {re.split(r"[{ ]", name)[0] for name in HEALTHY} - there == {"up"}
