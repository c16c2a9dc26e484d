"""Compiled programs kept on disk, so that the next process that needs one does not compile it again."""

import hashlib
import os
import platform
import sys
from pathlib import Path

import jax

LARGEST = 2**31  # bytes of the whole folder; the programs used longest ago are removed first
MAPPINGS = 2**15  # the default of vm.max_map_count is twice that


def cache_compilations(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keep what JAX compiles from now on in a folder, and read from there what was compiled before.

    This turns on JAX's persistent compilation cache, for all programs of the process. A cache that was already
    set up, for example by `JAX_COMPILATION_CACHE_DIR`, stays. The folder may be removed at any time.

    Args:
        folder: where; by default one for this kind of CPU in the user's cache directory.

    Returns:
        The folder.

    Raises:
        ImportError: `folder` is None, and platformdirs is not installed.
        OSError: the folder cannot be made.
    """
    chosen = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined, unused-ignore]
    if chosen is not None:
        return Path(chosen)
    path = _default_folder() if folder is None else Path(folder).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    try:
        import filelock  # noqa: F401  (JAX needs it to remove what is old)

        jax.config.update("jax_compilation_cache_max_size", LARGEST)
    except ImportError:
        pass
    jax.config.update("jax_compilation_cache_dir", str(path))
    # also the small programs: starting a run takes dozens of them
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return path


def use_cache(no_cache: bool) -> None:
    """What a command does: keep compiled programs unless it was told not to, and say where, the first time."""
    if no_cache:
        return
    try:
        folder = cache_compilations()
        if not any(folder.iterdir()):
            print(f"compiled programs are kept in {folder} for the next start (--no_cache does not keep them)")
    except OSError as error:
        print(f"compiled programs are not kept: {error}", file=sys.stderr)


def drop_programs() -> None:
    """Forget all compiled programs if they take half of the memory mappings that Linux allows a process by default.

    On a CPU every program takes hundreds, and a process that has none left crashes while it compiles.
    """
    try:
        many = Path("/proc/self/maps").read_bytes().count(b"\n") > MAPPINGS
    except OSError:  # not Linux
        return
    if many:
        jax.clear_caches()


def _default_folder() -> Path:
    import platformdirs

    # a program compiled for one CPU may use instructions that another lacks
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        kind = "".join(next((line for line in lines if line.startswith(word)), "") for word in ("model name", "flags"))
    except OSError:
        kind = platform.processor()
    return Path(platformdirs.user_cache_dir("jaxpuffer")) / hashlib.sha256(kind.encode()).hexdigest()[:12]
