"""Fast reinforcement-learning environments, and a PPO that trains on them in one jitted program."""
