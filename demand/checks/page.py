"""The page of the checks: one self-contained HTML file, nothing from outside hosts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import pandas as pd

from demand.checks.error_slices import Excess, ReportedSlice
from demand.checks.probe import Finding, one_line

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2327; --paper: #fff; --line: #d5d9dd;
  --soft: #5b6670; --good: #15703a; --bad: #b3261e; --warn: #8a5a00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --paper: #15181b; --line: #3a4148; --soft: #a0abb5;
    --good: #6fcf97; --bad: #ff8a80; --warn: #f2c66d; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 0.5rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.6rem;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
td.name, td.passed, td.warning, td.critical { white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
td.passed { color: var(--good); } td.warning { color: var(--warn); }
td.critical { color: var(--bad); font-weight: 600; }
p.note, li { color: var(--soft); }
iframe { width: 100%; height: 40rem; border: 1px solid var(--line); background: #fff; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'"

# How the page calls the baseline beside the model on the slices of the old report.
BASELINE = "report's MLP"

Cell = tuple[str, str]  # a class of the style sheet (or nothing) and a text, escaped here


def checks_page(
    findings: Sequence[Finding],
    slices: pd.DataFrame | None,
    reported: Sequence[ReportedSlice],
    *,
    refusal: str | None,
    suite_html: str | None,
    notes: Sequence[str],
) -> str:
    """Return the page.

    Parameters
    ----------
    findings, reported
        The tables' rows.
    slices
        :func:`demand.checks.error_slices.judged_slices`; None where the model gave no answers.
    refusal
        Why the gate says no, or None.
    suite_html
        Giskard's own report of the suite, a fragment, shown in a frame without scripts.
    notes
        Lines on what the scan left out, or why there was none.
    """
    failed = sum(not finding.passed for finding in findings)
    warned = f"Warnings: {failed} of {len(findings)} checks. Nothing critical failed."
    verdict = f"Refused. {refusal}" if refusal else warned if failed else "All checks passed."
    parts = [
        "<!doctype html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>Checks of the model</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>Checks of the model</h1>\n<p>{escape(verdict)}</p>",
        "<h2>Findings</h2>",
        _table(["Check", "Result", "Observed"], [_finding_row(f) for f in findings]),
        "<h2>Weak spots of the old report's model</h2>",
        "<p class='note'>MSE and MAE: relative to the same model's error on all test rows.</p>",
        _reported_table(reported),
        "<h2>Error by slice</h2>",
        _slices_table(slices),
        "<h2>Giskard's scan</h2>",
        "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>",
    ]
    if suite_html is not None:
        parts.append(
            "<details><summary>Giskard's report of the suite</summary>"
            f'<iframe sandbox="" title="Giskard\'s report" srcdoc="{escape(suite_html)}"></iframe>'
            "</details>"
        )
    return "\n".join([*parts, "</body>\n</html>\n"])


def _table(heads: Sequence[str], rows: Sequence[Sequence[Cell]], numbers: int = 0) -> str:
    """Return a table whose last ``numbers`` columns are right-aligned; all text is escaped."""
    first = len(heads) - numbers
    head = "".join(
        f"<th{' class=number' if i >= first else ''}>{escape(h)}</th>" for i, h in enumerate(heads)
    )
    body = "\n".join(
        "<tr>" + "".join(f"<td{_class(c)}>{escape(text)}</td>" for c, text in row) + "</tr>"
        for row in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _class(name: str) -> str:
    return f" class={name}" if name else ""


def _finding_row(finding: Finding) -> list[Cell]:
    state = "passed" if finding.passed else "critical" if finding.critical else "warning"
    words = {"passed": "passed", "critical": "failed, critical", "warning": "failed, a warning"}
    return [("name", finding.name), (state, words[state]), ("", finding.detail)]


def _slices_table(slices: pd.DataFrame | None) -> str:
    if slices is None:
        return "<p>Not measured: the model gave no predictions.</p>"
    heads = ["Division", "Slice", "Rows", "Training rows", "RMSE", "RMSE / all", "MAE", "Bias"]
    rows: list[list[Cell]] = []
    for row in slices.to_dict("records"):
        seen = "–" if pd.isna(row["train_rows"]) else f"{row['train_rows']:,.0f}"
        numbers = [f"{row['rows']:,}", seen, f"{row['rmse']:.4f}", f"{row['ratio']:.2f}"]
        numbers += [f"{row['mae']:.4f}", f"{row['bias']:+.4f}"]
        texts = [row["slice"].replace("_", " "), one_line(row["value"], 60)]
        rows.append([("", text) for text in texts] + [("number", number) for number in numbers])
    return _table(heads, rows, numbers=6)


def _reported_table(reported: Sequence[ReportedSlice]) -> str:
    with_baseline = any(slice_.baseline is not None for slice_ in reported)
    heads = ["Slice", "The report found", "Rows", "RMSE, ours", "MSE, ours", "MAE, ours"]
    if with_baseline:
        heads += [f"{metric}, {BASELINE}" for metric in ("RMSE", "MSE", "MAE")]
    rows: list[list[Cell]] = []
    for slice_ in reported:
        row: list[Cell] = [("", slice_.name), ("", slice_.reported), ("number", f"{slice_.rows:,}")]
        row += _excess_cells(slice_.ours)
        row += _excess_cells(slice_.baseline) if with_baseline else []
        rows.append(row)
    return _table(heads, rows, numbers=len(heads) - 2)


def _excess_cells(excess: Excess | None) -> list[Cell]:
    if excess is None:
        return [("number", "–")] * 3
    return [
        ("number", f"{excess.rmse:.4f}"),
        ("number", f"{excess.mse:+.0%}"),
        ("number", f"{excess.mae:+.0%}"),
    ]
