"""Each metric has the same name in the code, in the example mapping and rules for Prometheus, and in docs/monitoring.md."""

from __future__ import annotations

import re

import pytest
import yaml

from include import metrics, pipelines
from local.layout import ROOT

PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
FOLDER = ROOT / "docker" / "prometheus"
MAPPINGS = yaml.safe_load((FOLDER / "statsd-mapping.yaml").read_text())["mappings"]
[GROUP] = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
RULES = GROUP["rules"]
METRIC = re.compile(r"\bminutemark_\w+")

# Names on the wire, without prefix, and their types in the mapping of statsd_exporter.
SENT = {
    **{metrics.name_of(metric, "p"): "gauge" for metric in metrics.GAUGES},
    **{metrics.name_of(metrics.ROWS_METRIC, fate, "p"): "counter" for fate in metrics.ROWS},
    metrics.name_of(metrics.BATCH_METRIC, "p"): "observer",
}


def map_metric(name: str, kind: str) -> tuple[str, dict[str, str]]:
    """The name and labels of a metric in statsd_exporter: those of the first entry that matches; * matches one part."""
    for entry in MAPPINGS:
        pattern = re.escape(entry["match"]).replace(r"\*", "([^.]*)")
        match = re.fullmatch(pattern, f"airflow.{name}")
        if match and entry["match_metric_type"] == kind:

            def fill(text: str, match=match) -> str:
                return re.sub(r"\$(\d)", lambda number: match[int(number[1])], text)

            return fill(entry["name"]), {label: fill(value) for label, value in entry["labels"].items()}
    raise AssertionError(f"docker/prometheus/statsd-mapping.yaml has no entry for {name}, a {kind}.")


IN_PROMETHEUS = {map_metric(name, kind)[0] for name, kind in SENT.items()}


def test_every_metric_gets_its_own_name_and_its_pipeline_as_label():
    result = {name: map_metric(name, kind) for name, kind in SENT.items()}
    assert all(labels["pipeline"] == "p" for _, labels in result.values())
    assert {mapped_to: len(METRIC.findall(mapped_to)) for mapped_to, _ in result.values()} == dict.fromkeys(
        IN_PROMETHEUS, 1
    )
    fates = {labels["fate"] for mapped_to, labels in result.values() if mapped_to == "minutemark_rows_total"}
    assert fates == set(metrics.ROWS)
    assert len(IN_PROMETHEUS) == len(SENT) - len(metrics.ROWS) + 1


def test_the_pages_example_for_prometheus_loads_the_rules_and_scrapes_the_exporter():
    [example] = re.findall(r"```yaml\n(# prometheus\.yml\n.*?)```", PAGE, re.DOTALL)
    settings = yaml.safe_load(example)
    assert settings["rule_files"] == ["/etc/minutemark/alerts.yaml"]
    assert [job["job_name"] for job in settings["scrape_configs"]] == ["minutemark"]


def test_rules_use_metrics_that_are_sent():
    queried = {name for rule in RULES for name in METRIC.findall(rule["expr"])}
    assert queried and queried <= IN_PROMETHEUS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_what_is_wrong_and_what_to_do(rule):
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description"}


def test_limits_of_the_rules_are_those_of_the_declarations():
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    for pipeline in pipelines.all_pipelines().values():
        assert expressions["MinutemarkStale"].endswith(f"> {pipeline.delay_limit.total_seconds():.0f}")
        assert expressions["MinutemarkBlind"].endswith(f"> {pipeline.look_limit.total_seconds():.0f}")


def test_the_page_lists_every_metric_and_every_rule():
    names = {metrics.name_of(metric) for metric in metrics.GAUGES}
    names |= {metrics.name_of(metrics.ROWS_METRIC, fate) for fate in metrics.ROWS} | {
        metrics.name_of(metrics.BATCH_METRIC)
    }
    listed = set(re.findall(r"^\| `(minutemark\.[\w.]+)\.<pipeline>`", PAGE, re.MULTILINE))
    assert listed == names
    assert set(re.findall(r"`(Minutemark\w+)`", PAGE)) == {rule["alert"] for rule in RULES}
    assert set(METRIC.findall(PAGE)) - {"minutemark_watch"} <= IN_PROMETHEUS
