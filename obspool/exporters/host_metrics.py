"""The host exporter's metrics of itself, as the table of the pools' metrics is one."""

from __future__ import annotations

from obspool.exporters.family import Family, MetricType

POOLS = Family(
    "exporter_pools",
    MetricType.GAUGE,
    ("state",),
    "Names of pools that the host exporter serves: running, ended (its last state is still shown), "
    "past (its totals only).",
)
RUNS = Family(
    "exporter_runs_total",
    MetricType.COUNTER,
    (),
    "Runs of pools that the host exporter has seen, each once.",
)
FORGOTTEN = Family(
    "exporter_forgotten_total",
    MetricType.COUNTER,
    (),
    "Names of ended pools that the host exporter gave up, totals and all, because there were too "
    "many.",
)
SKIPPED = Family(
    "exporter_skipped_files",
    MetricType.GAUGE,
    ("reason",),
    "What the host exporter passes over now: refused (another user's who doesn't share it, a "
    "symlink, no regular file), unreadable (no segment, cut short, of another version), directory "
    "(can't be listed, or has too much in it), error (the system said no), limit (too many pools).",
)
LOOK = Family(
    "exporter_look_seconds",
    MetricType.SUMMARY,
    (),
    "One look through the directories for pools that began or ended, those at scrapes included.",
)
SCRAPE = Family(
    "exporter_scrape_seconds",
    MetricType.SUMMARY,
    (),
    "Making one answer: reading all pools and writing them as text.",
)

HOST_METRICS = (POOLS, RUNS, FORGOTTEN, SKIPPED, LOOK, SCRAPE)
