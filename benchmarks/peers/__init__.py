"""Environments and PPO compared with other libraries, a module for each of them; `python -m benchmarks.peers`."""
