"""Panels as obspool's dashboards have them: each with a title, a description and a unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AnyPanel: TypeAlias = Builder[models.Panel]

DATA_SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, AMBER, RED = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """One query of a panel.

    Attributes:
        expression: the PromQL, with Grafana's variables in it.
        legend: what its lines are called, `{{label}}` stands for a label's value; in a table, the
            title of its column.
        unit: of its column in a table; elsewhere the panel's.
    """

    expression: str
    legend: str
    unit: str | None = None


@dataclass(frozen=True)
class Steps:
    """From which values on a number is amber and red."""

    amber: float
    red: float


def _thresholds(steps: Steps | None) -> dashboard.ThresholdsConfig:
    """Return Grafana's thresholds; when red is below amber, small values are the bad ones."""
    levels: list[tuple[float | None, str]]
    if steps is None:
        levels = [(None, GREEN)]
    elif steps.red > steps.amber:
        levels = [(None, GREEN), (steps.amber, AMBER), (steps.red, RED)]
    else:
        levels = [(None, RED), (steps.red, AMBER), (steps.amber, GREEN)]
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in levels])
    )


def _targets(
    queries: Sequence[Query], kind: PromQueryFormat, *, instant: bool
) -> list[prometheus.Dataquery]:
    targets = []
    for number, query in enumerate(queries):
        target = (
            prometheus.Dataquery()
            .datasource(DATA_SOURCE)
            .ref_id(chr(ord("A") + number))
            .expr(query.expression)
            .legend_format(query.legend)
            .format(kind)
        )
        targets.append(target.instant() if instant else target.range())
    return targets


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 8,
    stacked: bool = False,
    bars: bool = False,
    highest: float | None = None,
    colors: Mapping[str, str] | None = None,
) -> AnyPanel:
    """Return a panel of lines over time, from zero up.

    Args:
        title: what it shows.
        description: what high and low mean, and what to do then.
        unit: Grafana's name of it.
        queries: what is asked.
        span: its width; the screen has 24.
        stacked: the lines stand on each other, because their sum means something.
        bars: one bar an interval instead of a line, for counts of rare events.
        highest: where the axis ends, if values can't be above.
        colors: of lines that mean the same everywhere, by their names.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .min(0)
        .targets(list(_targets(queries, PromQueryFormat.TIME_SERIES, instant=False)))
        .thresholds(_thresholds(None))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .line_width(1)
        .fill_opacity(60 if bars else 25 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .draw_style(
            common_models.GraphDrawStyle.BARS if bars else common_models.GraphDrawStyle.LINE
        )
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    for name, color in (colors or {}).items():
        fixed = {"mode": "fixed", "fixedColor": color}
        panel.override_by_name(name, [models.DynamicConfigValue(id_val="color", value=fixed)])
    if highest is not None:
        panel.max(highest)
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    span: int = 3,
    height: int = 4,
    steps: Steps | None = None,
    decimals: int | None = None,
    empty: str = "–",
) -> AnyPanel:
    """Return a panel of one or a few large numbers.

    Args:
        title: what it shows.
        description: what high and low mean, and what to do then.
        unit: Grafana's name of it.
        queries: what is asked; the last value is shown.
        span: its width; the screen has 24.
        height: its height; other panels have 8.
        steps: when it is amber or red; never, by default.
        decimals: digits after the point; by default as many as Grafana finds useful.
        empty: what is shown when there is no value.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .span(span)
        .height(height)
        .targets(list(_targets(queries, PromQueryFormat.TIME_SERIES, instant=True)))
        .thresholds(_thresholds(steps))
        .no_value(empty)
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    if len(queries) > 1:
        panel.text_mode(common_models.BigValueTextMode.VALUE_AND_NAME)
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def heat(title: str, description: str, unit: str, query: Query, *, span: int = 8) -> AnyPanel:
    """Return a heatmap of a histogram's buckets over time."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .span(span)
        .height(8)
        .targets(list(_targets([query], PromQueryFormat.HEATMAP, instant=False)))
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_values(heatmap.CellValues().unit("short"))
        .show_legend()
        .scale_distribution(
            common.ScaleDistributionConfig().type(common_models.ScaleDistribution.LINEAR)
        )
    )


def rows(
    title: str,
    description: str,
    by: Sequence[str],
    *queries: Query,
    span: int = 24,
    links: Mapping[str, tuple[str, str]] | None = None,
) -> AnyPanel:
    """Return a table with one row for each combination of some labels, one column for each query.

    Args:
        title: what it shows.
        description: what its columns mean.
        by: the labels; all queries have to return exactly these.
        queries: the columns; the legend is the column's title.
        span: its width; the screen has 24.
        links: for a label, the title and the URL that its cells lead to.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit("short")
        .span(span)
        .height(9)
        .targets(list(_targets(queries, PromQueryFormat.TABLE, instant=True)))
        .thresholds(_thresholds(None))
        .filterable(True)
        # `Value #A` is what Grafana calls the numbers of the query A of a table.
        .transformations(
            [
                models.DataTransformerConfig(id_val="merge", options={}),
                models.DataTransformerConfig(
                    id_val="organize",
                    options={
                        "excludeByName": {"Time": True},
                        "indexByName": {name: place for place, name in enumerate(by)}
                        | {_column(place): len(by) + place for place in range(len(queries))},
                        "renameByName": {
                            _column(place): query.legend for place, query in enumerate(queries)
                        },
                    },
                ),
            ]
        )
    )
    for query in queries:
        if query.unit is not None:
            panel.override_by_name(
                query.legend, [models.DynamicConfigValue(id_val="unit", value=query.unit)]
            )
    for name, (link, url) in (links or {}).items():
        value = [{"title": link, "url": url}]
        panel.override_by_name(name, [models.DynamicConfigValue(id_val="links", value=value)])
    return panel


def _column(place: int) -> str:
    return f"Value #{chr(ord('A') + place)}"


def words(
    title: str, description: str, content: str, *, span: int = 8, height: int = 8
) -> AnyPanel:
    """Return a panel with a text in Markdown."""
    return (
        text.Panel()
        .title(title)
        .description(description)
        .mode(TextMode.MARKDOWN)
        .content(content)
        .span(span)
        .height(height)
    )
