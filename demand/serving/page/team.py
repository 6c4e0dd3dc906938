"""The champion's card, as HTML, for the team behind the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from demand.serving.page.charts import Axis, line_chart, nice_ticks
from demand.serving.page.source import Snapshot
from demand.serving.page.texts import Language, count, decimal, percent, text

Link = tuple[str, str]
_MD5_SHOWN = 12
_METRICS = ("rmse", "mae", "mse", "baseline_rmse", "threshold")


def team_html(language: Language, snapshot: Snapshot, links: Sequence[Link]) -> str:
    """Return the card of the model that answers, or why there is none."""
    card = snapshot.card
    if card is None:
        known = "team.no_card" if snapshot.kind else "team.unknown"
        body = _section(language, "team.title", f"<p>{escape(text(language, known))}</p>")
    else:
        body = (
            _section(language, "team.title", _facts(language, snapshot, card))
            + _section(language, "team.metrics", _metrics(language, card.get("metrics") or {}))
            + _section(language, "team.calibration", _calibration(language, card))
            + _section(language, "team.errors", _errors(language, card))
            + _section(language, "team.weaknesses", _list(language, card.get("weaknesses")))
            + _section(language, "team.data_warnings", _list(language, card.get("data_warnings")))
        )
    return f'<div class="dp-team">{body}{_links(language, links)}</div>'


def _section(language: Language, title: str, body: str) -> str:
    name = title.replace(".", "-")
    return (
        f'<section class="dp-card dp-{name}" aria-labelledby="dp-{name}">'
        f'<h2 id="dp-{name}">{escape(text(language, title))}</h2>{body}</section>'
    )


def _facts(language: Language, snapshot: Snapshot, card: Mapping[str, Any]) -> str:
    data, rows = card.get("data") or {}, card.get("rows") or {}
    version = card.get("model_version") or snapshot.version
    shown = [
        ("team.version", version),
        ("team.trained", card.get("trained")),
        ("team.data", data.get("file")),
        ("team.md5", str(data["md5"])[:_MD5_SHOWN] if data.get("md5") else None),
        ("team.commit", str(data["git_commit"])[:_MD5_SHOWN] if data.get("git_commit") else None),
        *(
            (f"team.{part}", count(language, rows[part]))
            for part in ("train", "validation", "test")
            if rows.get(part) is not None
        ),
    ]
    cells = "".join(
        f"<div><dt>{escape(text(language, name))}</dt><dd>{escape(str(value))}</dd></div>"
        for name, value in shown
        if value is not None
    )
    note = ""
    if card.get("demo"):
        note = f'<p class="dp-note">{escape(text(language, "demo.note"))}</p>'
    return f'{note}<dl class="dp-facts" data-test="card">{cells}</dl>'


def _metrics(language: Language, metrics: Mapping[str, Any]) -> str:
    rows = []
    for name in _METRICS:
        value = metrics.get(name)
        if not isinstance(value, int | float):
            continue
        shown = _number(language, value)
        if name == "rmse" and metrics.get("rmse_low") is not None:
            low, high = (_number(language, metrics[f"rmse_{end}"]) for end in ("low", "high"))
            shown += f" ({low} – {high})"
        rows.append(
            f'<tr><th scope="row">{escape(text(language, f"metric.{name}"))}</th>'
            f"<td>{escape(shown)}</td></tr>"
        )
    return f'<table class="dp-table"><tbody>{"".join(rows)}</tbody></table>'


def _calibration(language: Language, card: Mapping[str, Any]) -> str:
    bins = card.get("calibration") or []
    measured = [b for b in bins if None not in (b["predicted"], b["actual"])]
    points = sorted((float(b["predicted"]), float(b["actual"])) for b in measured)
    if not points:
        return f"<p>{escape(text(language, 'team.nothing'))}</p>"
    ticks = nice_ticks(max(max(point) for point in points))
    labelled = tuple((tick, percent(language, tick)) for tick in ticks)
    x, y = Axis(0.0, ticks[-1], labelled), Axis(0.0, ticks[-1], labelled)
    furthest = max(abs(predicted - actual) for predicted, actual in points)
    description = text(
        language, "team.calibration_label", bins=len(points), furthest=percent(language, furthest)
    )
    chart = line_chart(
        x,
        y,
        [("dp-ideal", [(0.0, 0.0), (ticks[-1], ticks[-1])]), ("dp-line", points)],
        description,
        marks=[("dp-bin", a, b, "") for a, b in points],
    )
    return (
        f'<p class="dp-soft">{escape(text(language, "team.calibration_text"))}</p>'
        f"{chart}<p class='dp-soft dp-axis'>{escape(text(language, 'team.calibration_axis'))}</p>"
    )


def _errors(language: Language, card: Mapping[str, Any]) -> str:
    listed = card.get("error_by_category") or []
    found = [row for row in listed if row["rmse"] is not None]
    if not found:
        return f"<p>{escape(text(language, 'team.nothing'))}</p>"
    ordered = sorted(found, key=lambda row: -float(row["rmse"]))
    worst = float(ordered[0]["rmse"]) or 1.0
    rows = "".join(
        f'<tr><th scope="row">{escape(str(row["category"]))}</th>'
        f"<td>{count(language, row['ads'])}</td>"
        f'<td class="dp-bar-cell"><span class="dp-bar-line" aria-hidden="true" '
        f'style="width:{100 * float(row["rmse"]) / worst:.1f}%"></span>'
        f"{_number(language, row['rmse'])}</td></tr>"
        for row in ordered
    )
    heads = "".join(
        f'<th scope="col">{escape(text(language, name))}</th>'
        for name in ("table.category", "team.ads", "metric.rmse")
    )
    label = escape(text(language, "team.errors"))
    return (
        f'<div class="dp-scroll" tabindex="0" role="region" aria-label="{label}">'
        f'<table class="dp-table dp-errors"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _list(language: Language, lines: Sequence[object] | None) -> str:
    if not lines:
        return f"<p>{escape(text(language, 'team.nothing'))}</p>"
    return f"<ul>{''.join(f'<li>{escape(str(line))}</li>' for line in lines)}</ul>"


def _links(language: Language, links: Sequence[Link]) -> str:
    if not links:
        return ""
    items = "".join(
        f'<li><a href="{escape(url)}" target="_blank" rel="noopener noreferrer">'
        f"{escape(name)}</a></li>"
        for name, url in links
    )
    return _section(language, "team.links", f"<ul>{items}</ul>")


def _number(language: Language, value: float) -> str:
    return decimal(language, f"{value:.4f}")
