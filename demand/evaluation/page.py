"""The evaluation as one HTML page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape

from demand.evaluation.evaluate import Evaluation

WORST_SLICES = 20

PLOT_TITLES = {
    "calibration": "Mean deal probability over mean prediction, in bins of equal count",
    "error_by_category": "RMSE of each category, the number of its ads in brackets",
    "predicted_and_actual": "Predicted and actual deal probabilities",
    "training_curve": "Training loss and validation RMSE of each epoch",
}

# The policy forbids the page to load anything from anywhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --quiet: #57606a; --line: #d0d7de;
  --paper: #ffffff; --yes: #1a7f37; --no: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --quiet: #9198a1; --line: #3d444d;
  --paper: #0d1117; --yes: #3fb950; --no: #ff7b72; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; margin-bottom: 1.2rem; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--quiet); font-weight: 600; }
p.note, figcaption { color: var(--quiet); }
.verdict { font-weight: 600; } .yes { color: var(--yes); } .no { color: var(--no); }
figure { margin: 0; }
figure img { max-width: 100%; background: #ffffff; border-radius: 6px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr));
  gap: 1.5rem; align-items: start; }
"""


def evaluation_page(evaluation: Evaluation, plots: Mapping[str, bytes]) -> str:
    """Return the page of an evaluation.

    Parameters
    ----------
    evaluation
        What was measured. Every text of it is escaped.
    plots
        PNG bytes by name; known names get a caption that says what is seen.
    """
    figures = "\n".join(_figure(name, png) for name, png in plots.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>Evaluation</title>
<style>{STYLE}</style>
</head>
<body>
<h1>Evaluation on {len(evaluation.actual):,} test ads</h1>
{_verdicts(evaluation)}
<h2>Errors</h2>
<p class="note">Lower is better. Intervals hold {evaluation.settings.confidence:.0%} of
{evaluation.settings.bootstrap_samples:,} bootstrap samples, which draw sellers; a difference is
RMSE(model) - RMSE(other) on the same ads, so below 0 the model is better.</p>
{_own_table(evaluation)}
{_compared_table(evaluation)}
<h2>Plots</h2>
<div class="plots">
{figures}
</div>
<h2>Where the model is worst</h2>
<p class="note">Ratio: RMSE of the slice over that of all ads. Bias: mean of prediction - truth.
All slices are in <code>slices.csv</code>.</p>
{_slices_table(evaluation)}
</body>
</html>
"""


def _verdicts(evaluation: Evaluation) -> str:
    """Return a line for each gate."""
    return "\n".join(
        f'<p class="verdict {"yes" if decision.passed else "no"}">'
        f"{'Passed' if decision.passed else 'Refused'} by the {escape(decision.gate)} gate: "
        f"{escape(decision.reason)}</p>"
        for decision in evaluation.decisions
    )


def _own_table(evaluation: Evaluation) -> str:
    """Return the model's own figures as a table."""
    found = evaluation.metrics
    rows = [
        ("RMSE", f"{found['rmse']:.4f} ({found['rmse_low']:.4f} to {found['rmse_high']:.4f})"),
        ("MSE", f"{found['mse']:.4f}"),
        ("MAE", f"{found['mae']:.4f}"),
        ("Bias", f"{found['bias']:+.4f}"),
        ("Calibration error", f"{found['calibration_error']:.4f}"),
    ]
    if "noise_floor_rmse" in found:
        rows.append(("Noise floor (RMSE)", f"{found['noise_floor_rmse']:.4f}"))
    if "explained_share" in found:
        rows.append(("Explained share", f"{found['explained_share']:.1%}"))
    return _table(("model", "value"), rows)


def _compared_table(evaluation: Evaluation) -> str:
    """Return the baselines and the champion as a table."""
    rows = [
        (
            str(row.name),
            f"{row.rmse:.4f}",
            f"{row.difference:+.4f}",
            f"{row.low:+.4f} to {row.high:+.4f}",
        )
        for row in evaluation.compared.itertuples(index=False)
    ]
    return _table(("other", "RMSE", "difference", "interval"), rows)


def _slices_table(evaluation: Evaluation) -> str:
    """Return the slices with the highest ratio as a table."""
    worst = evaluation.slices.sort_values("ratio", ascending=False).head(WORST_SLICES)
    rows = [
        (
            f"{row.slice}: {row.value}",
            f"{row.rows:,}",
            f"{row.rmse:.4f}",
            f"{row.mae:.4f}",
            f"{row.bias:+.4f}",
            f"{row.ratio:.2f}",
        )
        for row in worst.itertuples(index=False)
    ]
    return _table(("slice", "ads", "RMSE", "MAE", "bias", "ratio"), rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return an HTML table of escaped cells."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _figure(name: str, png: bytes) -> str:
    """Return a plot as a figure with its bytes inside."""
    caption = escape(PLOT_TITLES.get(name, name))
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
