"""One of PufferLib 3.0's C environments, called through its own binding, on one thread. Compared with ours_c.py."""

import json
import sys

import numpy as np
from pufferlib_source import binding, version
from serve import serve

setting = json.loads(sys.argv[1])

FLOAT, INT = np.float32, np.int32
BREAKOUT = {"width": 576, "height": 330, "paddle_width": 62, "paddle_height": 8, "ball_width": 32, "ball_height": 32}
BREAKOUT |= {"brick_width": 32, "brick_height": 12, "brick_rows": 6, "brick_cols": 18, "frameskip": 4, "continuous": 0}
PONG = {"width": 500, "height": 640, "paddle_width": 20, "paddle_height": 70, "ball_width": 32, "ball_height": 32}
PONG |= {"paddle_speed": 8, "ball_initial_speed_x": 10, "ball_initial_speed_y": 1, "ball_speed_y_increment": 3}
PONG |= {"ball_max_speed_y": 13, "max_score": 21, "frameskip": 8, "continuous": 0}
GO = {"width": 950, "height": 950, "board_width": 950, "board_height": 950, "grid_square_size": 100, "moves_made": 0}
GO |= {"komi": 7.5, "score": 0.0, "last_capture_position": -1, "reward_move_pass": -0.6, "reward_move_invalid": -0.5}
GO |= {"reward_move_valid": 0, "reward_player_capture": 0.4, "reward_opponent_capture": -0.3, "grid_size": 9}
BOIDS = {"num_boids": 64, "report_interval": 1, "margin_turn_factor": 0.0, "centering_factor": 0.0}
BOIDS |= {"avoid_factor": 1.0, "matching_factor": 1.0}
CONVERT = {"width": 1920, "height": 1080, "num_agents": 1024, "num_factories": 32, "num_resources": 8}
CPR = {"width": 32, "height": 32, "num_agents": 8, "vision": 3, "reward_food": 0.1, "interactive_food_reward": 0.2}
CPR |= {"reward_move": 0.0, "food_base_spawn_rate": 2e-3}
PACMAN = {"randomize_starting_position": 1, "min_start_timeout": 0, "max_start_timeout": 49, "frightened_time": 35}
PACMAN |= {"max_mode_changes": 6, "scatter_mode_length": 70, "chase_mode_length": 140}
RWARE = {"width": 1280, "height": 640, "map_choice": 2, "num_agents": 8, "num_requested_shelves": 8}
RWARE |= {"grid_square_size": 64, "human_agent_idx": 0}
TOWER = {"num_maps": 50, "reward_climb_row": 0.64, "reward_fall_row": -0.16, "reward_illegal_move": -0.004}
TOWER |= {"reward_move_block": 0.235}
TRASH = {"grid_size": 20, "num_agents": 8, "num_trash": 40, "num_bins": 2, "max_steps": 500, "agent_sight_range": 5}
CARDS = {"width": 990, "height": 690, "card_width": 192, "card_height": 224}

# arguments, agents, an agent's observation, and its action: choices of each entry, or how many numbers
GAMES = {
    "boids": (BOIDS, 64, (256, FLOAT), (2, FLOAT)),
    "breakout": (BREAKOUT, 1, (118, FLOAT), ([3], FLOAT)),
    "cartpole": ({"continuous": 0}, 1, (4, FLOAT), ([2], FLOAT)),
    "connect4": ({}, 1, (42, FLOAT), ([7], INT)),
    "convert": (CONVERT, 1024, (28, FLOAT), ([9, 5], INT)),
    "cpr": (CPR, 8, (49, np.uint8), ([5], INT)),
    "go": (GO, 1, (163, FLOAT), ([82], INT)),
    "pacman": (PACMAN, 1, (291, FLOAT), ([4], INT)),
    "pong": (PONG, 1, (8, FLOAT), ([3], FLOAT)),
    "rware": (RWARE, 8, (27, FLOAT), ([5], INT)),
    "squared": ({"size": 11}, 1, (121, np.uint8), ([5], INT)),
    "target": ({"width": 1080, "height": 720, "num_agents": 8, "num_goals": 4}, 8, (28, FLOAT), ([9, 5], INT)),
    "tetris": ({"n_rows": 20, "n_cols": 10, "deck_size": 3}, 1, (234, FLOAT), ([7], INT)),
    "tower_climb": (TOWER, 1, (228, np.uint8), ([6], INT)),
    "trash_pickup": (TRASH, 8, (605, np.int8), ([4], INT)),
    "tripletriad": (CARDS, 1, (114, FLOAT), ([15], INT)),
}


def prepare():
    arguments, agents, (size, dtype), (choices, action_dtype) = GAMES[setting["env"]]
    worlds = setting["num_envs"]
    rows = worlds * agents
    draw = np.random.default_rng(0)
    if isinstance(choices, int):
        prepared = draw.uniform(-1, 1, (setting["cycle"], rows, choices)).astype(action_dtype)
    else:
        prepared = draw.integers(0, choices, (setting["cycle"], rows, len(choices))).astype(action_dtype)

    module = binding(setting["env"], setting["flags"])
    obs, actions = np.zeros((rows, size), dtype), np.zeros_like(prepared[0])
    reward, ends = np.zeros(rows, FLOAT), np.zeros((2, rows), np.uint8)
    if setting["env"] == "tower_climb":  # all worlds share a set of towers
        arguments = arguments | {"state": module.shared(num_maps=arguments["num_maps"])}
    envs = []
    for world in range(worlds):
        part = slice(world * agents, (world + 1) * agents)
        arrays = obs[part], actions[part], reward[part], ends[0, part], ends[1, part]
        envs.append(module.env_init(*arrays, world, **arguments))
    batch = module.vectorize(*envs)
    module.vec_reset(batch, 0)

    def run(steps):
        for i in range(steps):
            actions[...] = prepared[i % len(prepared)]
            module.vec_step(batch)

    def play():
        rewards = 0.0
        for _ in range(setting["play"]):
            actions[...] = draw.integers(0, choices, actions.shape)
            module.vec_step(batch)
            rewards += float(reward.sum())
        return setting["play"], rewards, None  # some of the games count no ends

    run.play = play
    run.arrays = obs, reward, ends  # the environments write there
    return run, rows


serve(prepare, ("numpy",), setting["seconds"], {"pufferlib": version})
