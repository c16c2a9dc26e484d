"""The libraries that adapters are for, which are not installed with this one."""

from importlib.util import find_spec


def require(package: str, of: str) -> None:
    """Raise ImportError, which says what to install for the adapter `of`, unless the package is installed."""
    if find_spec(package.replace("-", "_")) is None:
        raise ImportError(f"{of} needs {package}: pip install {package}")
