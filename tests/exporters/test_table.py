"""The table's own rules, and the docs page that is made from it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from obspool.exporters import markdown
from obspool.exporters.family import POOL, MetricType, PoolMetric
from obspool.exporters.host_metrics import HOST_METRICS
from obspool.exporters.table import EXPORTER_ERRORS, pool_metrics
from tests.synthetic import make_snapshot

if TYPE_CHECKING:
    from obspool.exporters.family import Family

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

METRICS = pool_metrics()
FAMILIES: tuple[Family, ...] = (*METRICS, EXPORTER_ERRORS, *HOST_METRICS)

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def test_names_are_used_once() -> None:
    """No two families have a name in common, a counter's without `_total` included."""
    names = [family.name.removesuffix("_total") for family in FAMILIES]
    assert len(set(names)) == len(names)


@each_family
def test_a_family_keeps_the_conventions(family: Family) -> None:
    """Names, types, labels and HELP follow Prometheus's rules, and the house's."""
    assert re.fullmatch(r"obspool_[a-z][a-z_]*[a-z]", family.full_name)
    assert (family.type is MetricType.COUNTER) == family.name.endswith("_total")
    assert not family.name.endswith(("_count", "_sum", "_bucket", "_created"))
    assert not {"job", "instance", "le", "quantile", POOL}.intersection(family.labels)
    assert all(re.fullmatch(r"[a-z_]+", label) for label in family.labels)
    assert family.help.isascii()
    assert family.help.endswith(".")


@each_metric
def test_readings_have_the_labels_that_the_table_says(metric: PoolMetric) -> None:
    """As many label values as there are names, all of them strings, and no series twice."""
    seen = [values for values, _ in metric.read(make_snapshot(9))]
    assert seen
    assert {len(values) for values in seen} == {len(metric.labels)}
    assert all(isinstance(value, str) for values in seen for value in values)
    assert len(set(seen)) == len(seen)


def test_worker_histograms_change_one_type_only() -> None:
    """With them the workers' run time is a histogram, and nothing else is different."""
    changed = [
        (before.name, after.type)
        for before, after in zip(METRICS, pool_metrics(worker_histograms=True), strict=True)
        if before != after
    ]
    assert changed == [("worker_item_run_duration_seconds", MetricType.HISTOGRAM)]


def test_the_docs_page_is_up_to_date() -> None:
    """docs/metrics.md holds the table as the code has it (the page says how to make it so)."""
    text = PAGE.read_text(encoding="utf-8")
    assert markdown.page(text) == text


def test_the_docs_page_is_brought_up_to_date(tmp_path: Path) -> None:
    """The command replaces what is between the marks, and nothing else."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{markdown.BEGIN}\nold\n{markdown.END}\nafter\n", encoding="utf-8")
    assert markdown.main([str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "obspool_worker_exits_total" in text
    assert "old\n" not in text


def test_a_page_without_the_marks_is_refused() -> None:
    """Nothing is written into a page that has no place for the table."""
    with pytest.raises(ValueError, match="needs the lines"):
        markdown.page("no marks")


def test_the_table_loads_no_prometheus_client() -> None:
    """The table and the address's forms cost nothing to those who serve no metrics."""
    code = (
        "import sys, obspool, obspool.exporters.table, obspool.exporters.address;"
        "sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
