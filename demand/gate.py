"""The gates between a trained model and serving: pure decisions, no reading, no writing.

Of every number compared here **lower is better**: it is an RMSE, or a difference of two.
A number that is NaN or infinite never passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from demand.errors import GateRefusal
from demand.metrics import Interval

# Two models nearer than this in RMSE gave the same predictions up to rounding.
TIE_RMSE = 1e-9


@dataclass(frozen=True)
class GateDecision:
    """What a gate said.

    Parameters
    ----------
    passed
        The model may go on.
    gate
        Which gate: ``rmse`` or ``champion``.
    reason
        One line for a person: what was observed, what was demanded.
    """

    passed: bool
    gate: str
    reason: str

    def require(self) -> None:
        """Do nothing where the gate passed.

        Raises
        ------
        GateRefusal
            The gate did not pass.
        """
        if not self.passed:
            raise GateRefusal(self.gate, self.reason)


def rmse_gate(rmse: float, threshold: float) -> GateDecision:
    """Demand an RMSE strictly below the threshold; lower is better.

    | rmse                    | decision |
    |-------------------------|----------|
    | below the threshold     | pass     |
    | equal to the threshold  | refuse   |
    | above the threshold     | refuse   |
    | NaN, infinite, negative | refuse   |

    A threshold that is NaN or infinite refuses every model.
    """
    if not math.isfinite(threshold):
        return GateDecision(False, "rmse", f"the threshold {threshold} is no finite number")
    if not math.isfinite(rmse) or rmse < 0.0:
        return GateDecision(False, "rmse", f"the test RMSE {rmse} is no error that can be measured")
    passed = rmse < threshold
    relation = "is below" if passed else "is not below"
    # Six digits, but all of them where six would show two different numbers as equal.
    shown = f"{rmse:.6g}" if f"{rmse:.6g}" != f"{threshold:.6g}" else f"{rmse}"
    return GateDecision(passed, "rmse", f"the test RMSE {shown} {relation} {threshold}")


def baseline_gate(rmse: float, baseline_rmse: float) -> GateDecision:
    """Demand an RMSE strictly below that of the mean predictor on the same rows.

    A threshold that is generous for the data must not let a model pass that has learnt
    nothing. NaN and infinity never pass.
    """
    passed = math.isfinite(rmse) and math.isfinite(baseline_rmse) and rmse < baseline_rmse
    relation = "is below" if passed else "is not below"
    return GateDecision(
        passed,
        "rmse",
        f"the test RMSE {rmse:.6g} {relation} the mean predictor's {baseline_rmse:.6g}",
    )


def is_tie(difference: Interval) -> bool:
    """Say whether two models gave the same predictions, up to rounding."""
    return abs(difference.estimate) <= TIE_RMSE


def champion_gate(difference: Interval | None, margin: float) -> GateDecision:
    """Keep the champion where the challenger is worse, or no different.

    Parameters
    ----------
    difference
        RMSE(challenger) - RMSE(champion) on the same rows, which neither was trained
        on, with its paired bootstrap interval; None where there is no champion.
        Negative: the challenger is better.
    margin
        By how much RMSE the challenger may certainly be worse, at least 0.

    Notes
    -----
    The rows are tried from the top; the first that holds decides.

    | difference                                 | decision                       |
    |--------------------------------------------|--------------------------------|
    | None                                       | pass: no champion              |
    | estimate, low or high is NaN or infinite   | refuse: cannot be compared     |
    | low > margin                               | refuse: worse                  |
    | estimate is 0 (nearer than ``TIE_RMSE``)   | refuse: a tie, champion stays  |
    | anything else                              | pass: not shown to be worse    |

    So a challenger must not be shown to be *better*: with an interval on both sides of
    0 the newer model goes on, since it knows newer ads. A margin of 0 refuses whatever
    the bootstrap shows to be worse at all.

    Raises
    ------
    ValueError
        The margin is negative, NaN or infinite.
    """
    if not (math.isfinite(margin) and margin >= 0.0):
        raise ValueError(f"the champion's margin must be a number from 0, not {margin}")
    if difference is None:
        return GateDecision(True, "champion", "there is no champion yet")
    if not all(map(math.isfinite, (difference.estimate, difference.low, difference.high))):
        return GateDecision(
            False, "champion", f"the difference to the champion cannot be measured: {difference}"
        )
    shown = (
        f"RMSE {difference.estimate:+.5f} against the champion on the same rows "
        f"(interval {difference.low:+.5f} to {difference.high:+.5f})"
    )
    if difference.low > margin:
        return GateDecision(False, "champion", f"worse: {shown}, beyond the margin {margin:.5f}")
    if is_tie(difference):
        return GateDecision(False, "champion", f"a tie keeps the champion: {shown}")
    return GateDecision(True, "champion", f"not worse: {shown}, margin {margin:.5f}")
