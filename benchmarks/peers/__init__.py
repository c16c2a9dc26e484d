"""Environments and PPO beside other libraries': a module for each of them; `python -m benchmarks.peers`."""
