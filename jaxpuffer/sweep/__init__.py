"""Searches for good configurations, on Optuna."""
