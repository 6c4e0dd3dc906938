from __future__ import annotations

from hypothesis import settings

# A busy machine must not fail a property that holds.
settings.register_profile("house", deadline=None)
settings.load_profile("house")
