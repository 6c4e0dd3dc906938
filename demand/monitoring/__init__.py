"""Sampling the endpoint with labelled ads, and the gate of production evaluation."""
