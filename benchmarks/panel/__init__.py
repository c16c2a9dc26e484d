"""The panel: small tasks in unusual units on which the unchanged defaults of `PPOConfig` must learn."""
