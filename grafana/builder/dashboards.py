"""The two dashboards, whole: rows, variables, links, ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from grafana.builder import host, pool, tuning
from grafana.builder.panels import DATA_SOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from grafana.builder.panels import AnyPanel

TAG = "obspool"
ALL = models.VariableOption(selected=True, text="All", value="$__all")
MIB = 1 << 20
# What a worker may have, in the pool's dashboard.
MEMORY_MIB = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
MEMORY_DEFAULT_MIB = 1024


def _chosen(name: str, query: str, *, several: bool) -> dashboard.QueryVariable:
    variable = (
        dashboard.QueryVariable(name)
        .label(name)
        .datasource(DATA_SOURCE)
        .query({"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if several:
        variable.multi(True).include_all(True).all_value(".+").current(ALL)
    return variable


def _memory() -> dashboard.CustomVariable:
    options = [
        models.VariableOption(
            selected=size == MEMORY_DEFAULT_MIB, text=_size(size), value=str(size * MIB)
        )
        for size in MEMORY_MIB
    ]
    return (
        dashboard.CustomVariable("memory")
        .label("Memory for a worker")
        .description("What one worker may have; maxtasksperchild is chosen by it.")
        .values(", ".join(f"{_size(size)} : {size * MIB}" for size in MEMORY_MIB))
        .options(options)
        .current(next(option for option in options if option.selected))
    )


def _size(mib: int) -> str:
    return f"{mib} MiB" if mib < 1024 else f"{mib // 1024} GiB"  # noqa: PLR2004 - a binary prefix


def _frame(title: str, uid: str, description: str) -> dashboard.Dashboard:
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .time("now-30m", "now")
        .refresh("10s")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("obspool")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
            .icon("external link")
        )
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        )
        .with_variable(_chosen("job", "label_values(obspool_pool_info, job)", several=True))
        .with_variable(
            _chosen(
                "instance", 'label_values(obspool_pool_info{job=~"$job"}, instance)', several=True
            )
        )
    )


def _fill(
    frame: dashboard.Dashboard, rows: Sequence[tuple[str, Sequence[AnyPanel]]]
) -> models.Dashboard:
    for title, panels in rows:
        frame.with_row(dashboard.Row(title))
        for panel in panels:
            frame.with_panel(panel)
    made = frame.build()
    for number, placed in enumerate(made.panels or [], start=1):
        placed.id_val = number
    return made


def pool_dashboard() -> models.Dashboard:
    """Return the dashboard of one pool."""
    frame = _frame(
        "obspool: a pool",
        host.POOL_UID,
        "One obspool pool: how it does, what slows it, and which chunksize and maxtasksperchild "
        "suit it.",
    )
    names = 'label_values(obspool_pool_info{job=~"$job", instance=~"$instance"}, pool)'
    frame.with_variable(_chosen("pool", names, several=False)).with_variable(_memory())
    return _fill(
        frame,
        [
            ("Overview", pool.overview()),
            ("Rate, errors, duration", pool.work()),
            ("Queue", pool.queue()),
            ("Workers", pool.workers()),
            ("Choosing chunksize", tuning.chunksize()),
            ("Choosing maxtasksperchild", tuning.maxtasksperchild()),
            ("The program's own", pool.own_counters()),
        ],
    )


def host_dashboard() -> models.Dashboard:
    """Return the dashboard of a host with many pools."""
    frame = _frame(
        "obspool: a host's pools",
        "obspool-host",
        "All obspool pools of a host, or of several: which of them needs a look.",
    )
    names = 'label_values(obspool_pool_info{job=~"$job", instance=~"$instance"}, pool)'
    frame.with_variable(_chosen("pool", names, several=True))
    return _fill(
        frame,
        [
            ("Overview", host.summary()),
            ("Pools", host.pools()),
            ("Over time", host.history()),
        ],
    )


def encode(made: models.Dashboard) -> str:
    """Return a dashboard as the text of its file."""
    return JSONEncoder(indent=2, sort_keys=True, ensure_ascii=False).encode(made) + "\n"
