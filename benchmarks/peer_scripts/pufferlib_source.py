"""PufferLib 3.0 from its unpacked source distribution, the folder PUFFERLIB_SOURCE: version and C environments."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

source = Path(os.environ["PUFFERLIB_SOURCE"])
(version,) = (
    line.split()[1] for line in (source / "PKG-INFO").read_text().splitlines() if line.startswith("Version: ")
)


def binding(name: str, flags: str) -> ModuleType:
    """The extension module of an environment, compiled like our headers."""
    library = Path(tempfile.mkdtemp()) / "binding.so"
    raylib = next(source.glob("raylib-*"))
    includes = [sysconfig.get_paths()["include"], np.get_include(), raylib / "include", source / "pufferlib"]
    command = [os.environ.get("CC", "cc"), *flags.split(), "-w", "-shared", "-fPIC", "-Wl,-z,lazy"]
    command += [f"-I{folder}" for folder in includes]
    command += [
        source / "pufferlib" / "ocean" / name / "binding.c",
        raylib / "lib" / "libraylib.a",
        "-o",
        library,
        "-lm",
    ]
    subprocess.run(command, check=True)
    sys.setdlopenflags(os.RTLD_LAZY)  # a window and its libraries are never used
    spec = importlib.util.spec_from_file_location("binding", library)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.rmtree(library.parent)  # it stays loaded
    return module
