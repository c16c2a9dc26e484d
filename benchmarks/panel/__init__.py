"""The panel: small tasks in odd units on which the untouched defaults of `PPOConfig` must learn."""
