"""How good a model is: against the truth, the baselines and the champion."""
