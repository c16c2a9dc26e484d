"""PufferLib 3.0's trainer on one of its C environments; a step is one update. Compared with ours_ppo.py."""

import ast
import configparser
import importlib
import json
import os
import sys
import tempfile

from pufferlib_source import binding, source, version
from serve import serve

setting = json.loads(sys.argv[1])
sys.path.insert(0, str(source))
folder = tempfile.TemporaryDirectory()
os.chdir(folder.name)  # the package leaves a link to its pictures in the working directory
trainers = []


def train_settings():
    """Its defaults for every environment, some replaced by ours."""
    file = configparser.ConfigParser()
    file.read(source / "pufferlib" / "config" / "default.ini")
    config = {}
    for name, text in file["train"].items():
        try:
            config[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            config[name] = text
    config |= {"device": "cpu", "env": setting["env"], "use_rnn": setting["lstm"], "data_dir": folder.name}
    return config | {"checkpoint_interval": 10**9, "total_timesteps": 10**9, **setting["train"]}


def prepare():
    import torch.utils.cpp_extension

    name = setting["env"]
    # compiled here, as its own installation compiles all of its environments
    advantage = source / "pufferlib" / "extensions" / "pufferlib.cpp"
    torch.utils.cpp_extension.load("_C", [str(advantage)], extra_cflags=["-O3"], is_python_module=False)
    sys.modules["pufferlib._C"] = torch.ops.pufferlib
    sys.modules[f"pufferlib.ocean.{name}.binding"] = binding(name, setting["flags"])
    import pufferlib.models
    import pufferlib.pufferl
    import pufferlib.vector

    kind = getattr(importlib.import_module(f"pufferlib.ocean.{name}.{name}"), name.capitalize())
    envs = pufferlib.vector.make(kind, env_kwargs=setting["arguments"], backend=pufferlib.vector.Serial)
    policy = pufferlib.models.Default(envs.driver_env, hidden_size=setting["hidden"])
    if setting["lstm"]:
        policy = pufferlib.models.LSTMWrapper(envs.driver_env, policy, setting["hidden"], setting["hidden"])
    pufferlib.pufferl.PuffeRL.print_dashboard = lambda *_, **__: None
    trainer = pufferlib.pufferl.PuffeRL(train_settings(), envs, policy)
    trainers.append(trainer)

    def run(updates):
        for _ in range(updates):
            trainer.evaluate()
            trainer.train()

    return run, trainer.config["batch_size"]


serve(prepare, ("torch", "heavyball", "numpy"), setting["seconds"], {"pufferlib": version})
for trainer in trainers:
    trainer.utilization.stop()  # its thread would keep the process alive
