"""python -m parity.proven [--record]: which environments are as they were when everything was last run on them.

As long as no file that an environment depends on has changed, comparing its two ports again shows nothing new. So CI
and the tests are short on those environments and thorough on the others. `.ci/run full` is thorough on all, and then
`python -m parity.proven --record` notes what they look like.
"""

import argparse
import hashlib
import inspect
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = Path(__file__).with_name("proven.json")
SHORT_STEPS = 2_000  # of an environment that has not changed

# what the games of all environments depend on, and what judges them
SHARED = (
    "CMakeLists.txt",  # the flags that C is compiled with
    *(f"envs_c/{name}" for name in ("batch.h", "env.h", "numerics.h", "rng.h", "binding.cpp", "__init__.py")),
    "envs_c/describe_env.py",
    *(f"jaxpuffer/{name}.py" for name in ("batch", "c_backend", "devices", "env", "numerics", "pytree", "rng", "rows")),
    "jaxpuffer/spaces.py",
    *(f"parity/{name}.py" for name in ("__init__", "harness", "mutants", "mutate", "named", "states")),
    *("tests/test_envs.py", "tests/test_parity.py"),
)


def files_of(name: str) -> list[Path]:
    """The files that the two ports of an environment and their tests consist of."""
    from jaxpuffer.registry import env_class

    port = Path(inspect.getfile(env_class(name)))
    own, headers = [port, *_tests(port.stem, name)], [f"{name}.h"]
    for header in headers:  # and what it includes
        path = ROOT / "envs_c" / header
        if path.exists() and path not in own:
            own.append(path)
            headers += re.findall(r'^#include "(\w+\.h)"', path.read_text(), re.MULTILINE)
    return sorted({*own, *(ROOT / file for file in SHARED)})


def _tests(module: str, name: str) -> list[Path]:
    """Of two environments that share a module, the second one may have a file of tests of its own."""
    first, own = (ROOT / f"tests/envs/test_{stem}.py" for stem in (module, name))
    return [first, own] if own.exists() else [first]


def fingerprint(name: str) -> str:
    """A hash of all these files."""
    digest = hashlib.sha256()
    for path in files_of(name):
        digest.update(path.name.encode() + b"\0" + (path.read_bytes() if path.exists() else b"") + b"\0")
    return digest.hexdigest()[:16]


def is_proven(name: str) -> bool:
    """Whether an environment is as it was when everything was last run on it; that of a user never is."""
    from jaxpuffer.registry import ENVS

    return name in ENVS and RECORD.exists() and json.loads(RECORD.read_text()).get(name) == fingerprint(name)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m parity.proven", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--record", action="store_true", help="note what they look like now, after .ci/run full")
    args = parser.parse_args()
    from jaxpuffer import list_envs

    if args.record:
        RECORD.write_text(json.dumps({name: fingerprint(name) for name in list_envs()}, indent=1) + "\n")
    for name in list_envs():
        print(f"{name:20s} {'proven' if is_proven(name) else 'changed since'}")


if __name__ == "__main__":
    main()
