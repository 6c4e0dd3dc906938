"""Network, training, inference without torch, calibration, explanation."""
