"""Back to the champion before, by itself, where the one that serves is worse on the same ads."""

from __future__ import annotations

from demand.config import DeploySettings
from demand.monitoring.rules import Decision, Finding
from demand.registry.registry import Registry
from demand.serving.deployment import last_settings, roll_back


def reason_to_roll_back(decision: Decision) -> Finding | None:
    """Return the first rule with ``rolls_back`` that holds, or None."""
    rolling = {rule.name for rule in decision.rules if rule.rolls_back}
    held = (found for found in decision.findings if found.state == "holds")
    return next((found for found in held if found.rule in rolling), None)


def roll_back_where_worse(decision: Decision, version: str) -> str | None:
    """Serve the champion before where a rule says so; return the version that serves then.

    None: no rule does, or ``version``, which was judged, is champion no more. What was rolled back
    is not promoted again, see :func:`demand.registry.promotion.promote_challenger`. Run again, as
    after a kill, it does nothing twice. :class:`DemandError`: the one before cannot be served.
    """
    found = reason_to_roll_back(decision)
    champion = Registry().champion()
    if found is None or champion is None or champion.version != version:
        return None
    reason = f"decision {decision.id}: {found.rule}: {found.told}"
    return roll_back(None, reason, last_settings() or DeploySettings()).version
