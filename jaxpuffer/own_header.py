"""A C environment of one's own: its header is compiled with this machine's compiler, and joins those of this package.

What is compiled is kept in the user's cache directory, under a hash of the preprocessed source and the compiler.
"""

import ctypes
import hashlib
import inspect
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import envs_c
from envs_c import describe_env, require_built
from jaxpuffer.exits import one_line

COMPILERS = ("cc", "gcc", "clang")
# a function that takes other pointers than it is called with, or that does not exist, computes wrong numbers
NEVER_MEANT = tuple(
    f"-Werror={kind}" for kind in ("incompatible-pointer-types", "int-conversion", "implicit-function-declaration")
)
_loaded: dict[Path, ctypes.CDLL] = {}  # for as long as the process lives
_headers: dict[str, Path] = {}  # by the names among `_core.descriptions()`


def header_of(cls: type, header: str | os.PathLike[str] | None) -> Path:
    """The header of an environment's class: `header`, or else what the class attribute `header` names.

    A relative path is looked up beside the class's module, and then in the working directory.

    Raises:
        ValueError: neither names one.
        FileNotFoundError: there is no such file.
    """
    given = getattr(cls, "header", None) if header is None else header
    if given is None:
        raise ValueError(
            f"{cls.__name__} has no C twin: give header='...h', or set the class attribute header to its path"
        )
    path = Path(given).expanduser()
    try:
        beside = Path(inspect.getfile(cls)).parent / path
    except (TypeError, OSError):  # a class of a notebook
        beside = path
    found = next((p for p in (beside, path) if p.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"there is no header {beside}")
    return found.resolve()


def load_header(header: Path) -> str:
    """Compile a header, unless that was done before, and load it: its name among `_core.descriptions()`.

    Raises:
        ImportError: the C environments are not built, or there is no C compiler.
        ValueError: the header is not as envs_c/env.h says, or does not compile.
    """
    require_built()
    from envs_c import _core

    name = header.stem
    if not name.isidentifier():
        raise ValueError(
            f"the header is {header.name}; its name, which its functions begin with, must be an identifier"
        )
    try:
        text = describe_env.describe(name, header.parent)
    except SystemExit as error:
        raise ValueError(str(error)) from None
    identity = describe_env.identity(name, header.read_text())
    if _core.descriptions().get(name, {}).get("id") == identity:
        return name  # the header of a shipped environment, which must stay what it is
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"{name}.c"
        source.write_text(text)
        flags = ["-std=c11", *shlex.split(_core.FLAGS), "-Wall", "-Wextra", *NEVER_MEANT]
        flags += ["-I", str(header.parent), "-I", str(Path(str(envs_c.__file__)).parent)]
        command = [*_compiler(), *flags]
        whole = _run([*command, "-E", "-P", str(source)], header)
        version = _run([*_compiler(), "--version"], header)
        digest = hashlib.sha256(
            "\0".join([whole, version, _core.FLAGS, *NEVER_MEANT, sys.platform]).encode()
        ).hexdigest()[:20]
        library = _folder() / f"{name}-{digest}.so"
        if not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            made = Path(folder) / "made.so"
            missing = describe_env.missing_functions(name, header.read_text())
            _run([*command, "-shared", "-fPIC", str(source), "-o", str(made)], header, missing)
            beside = library.with_suffix(f".{os.getpid()}")
            shutil.copy(made, beside)
            beside.replace(library)  # in one step: several processes may do this at once
    if library not in _loaded:
        _loaded[library] = ctypes.CDLL(str(library))
    # also if it was loaded before: a file that the header includes may have changed, and changed back
    _core.add(ctypes.addressof(ctypes.c_char.in_dll(_loaded[library], f"{name}_description")))
    key = next(key for key, about in _core.descriptions().items() if about["id"] == identity)
    _headers[key] = header
    return key


def shown(name: str) -> str:
    """What errors call an environment of `_core.descriptions()`: its name, or the path of a header of one's own."""
    return str(_headers.get(name, name))


def _compiler() -> list[str]:
    """The C compiler's command: that of CC, or one of the usual ones."""
    if os.environ.get("CC"):
        return shlex.split(os.environ["CC"])
    found = next((path for path in map(shutil.which, COMPILERS) if path), None)
    if found is None:
        raise ImportError(f"there is no C compiler ({', '.join(COMPILERS)}); install one, or set CC to its command")
    return [found]


def _run(command: list[str], header: Path, missing: Sequence[str] = ()) -> str:
    """The output of a command; if it fails, the error begins with the functions that the header seems to lack."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise ImportError(f"the C compiler {command[0]} cannot be run: {one_line(error)}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        lacks = f"it has no {', '.join(missing)}; " if missing else ""
        raise ValueError(f"{header} does not compile: {lacks}" + "\n".join(said[:5]))
    return done.stdout


def _folder() -> Path:
    """Where libraries are kept."""
    try:
        import platformdirs
    except ImportError:
        return Path.home() / ".cache" / "jaxpuffer" / "headers"  # not a folder where others can write
    return Path(platformdirs.user_cache_dir("jaxpuffer")) / "headers"
