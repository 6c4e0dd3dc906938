"""Write ``dashboard.json``, Grafana's dashboard of the API, with Grafana's own builders.

``python deployment/monitoring/dashboard.py``, in the environment of ``make dev``.
"""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

FILE = Path(__file__).with_name("dashboard.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
WITHIN = "[$__rate_interval]"
PREDICT = '{route="/predict"}'
WIDTH, HEIGHT = 24, 8


def quantile(share: float) -> str:
    """Return the query for a quantile of the seconds of ``/predict``."""
    buckets = f"rate(demand_request_seconds_bucket{PREDICT}{WITHIN})"
    return f"histogram_quantile({share}, sum by (le) ({buckets}))"


ADS = f"rate(demand_ads_total{WITHIN})"
REQUESTS = f"rate(demand_requests_total{WITHIN})"
FAILED = f'sum(rate(demand_requests_total{{status=~"5.."}}{WITHIN}))'
FAILED_SHARE = f"({FAILED} or vector(0)) / sum({REQUESTS})"
# Title, unit of Grafana, query, and the label that is shown instead of the value.
FIGURES = [
    ("Instances that answer", "none", 'sum(up{job="demand-api"})', ""),
    ("Version", "none", "count by (version) (demand_champion)", "{{version}}"),
    ("Of them champions", "percentunit", "avg(demand_champion_answers)", ""),
    ("Ads a second", "short", f"sum({ADS})", ""),
    ("Failed", "percentunit", FAILED_SHARE, ""),
    ("95 % answered within", "s", quantile(0.95), ""),
]
# Title, unit, and the curves: each a query and its legend.
CURVES = [
    (
        "Requests a second",
        "reqps",
        [(f"sum by (route, status) ({REQUESTS})", "{{route}} {{status}}")],
    ),
    ("Ads a second", "short", [(f"sum by (instance) ({ADS})", "{{instance}}")]),
    (
        "Seconds to the answer of /predict",
        "s",
        [(quantile(share), f"{share:.0%}") for share in (0.5, 0.95, 0.99)],
    ),
    ("Failed", "percentunit", [(FAILED_SHARE, "5xx")]),
    ("Batches and passed on requests in flight", "short", [("demand_in_flight", "{{instance}}")]),
    ("Instances by version", "short", [("count by (version) (demand_champion)", "{{version}}")]),
]


def made() -> str:
    """Return the dashboard as JSON."""
    board = (
        dashboard.Dashboard("avito-demand: the API")
        .uid("avito-demand-api")
        .tags(["avito-demand"])
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("source").label("Source").type("prometheus"))
    )
    for title, unit, query, legend in FIGURES:
        figure = (
            stat.Panel().title(title).unit(unit).span(WIDTH // len(FIGURES)).height(HEIGHT // 2)
        )
        target = prometheus.Dataquery().ref_id("A").expr(query)
        figure.with_target(target.legend_format(legend).instant())
        if legend:
            figure.text_mode(BigValueTextMode.NAME)
        board.with_panel(figure.datasource(SOURCE))
    for title, unit, curves in CURVES:
        plot = timeseries.Panel().title(title).unit(unit).span(WIDTH // 2).height(HEIGHT).min(0)
        for letter, (query, legend) in zip("ABC", curves, strict=False):
            target = prometheus.Dataquery().ref_id(letter).expr(query)
            plot.with_target(target.legend_format(legend).range())
        board.with_panel(plot.datasource(SOURCE))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(made(), encoding="utf-8")
