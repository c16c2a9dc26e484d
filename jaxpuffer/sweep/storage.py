"""Where a sweep's study is: SQLite in its folder, another database, or a journal file."""

from pathlib import Path

import optuna
import optuna.storages.journal

from jaxpuffer.exits import one_line

NAME = "sweep"  # of the study in its storage
SQLITE = "sqlite:///"
DATABASE = "study.db"  # in the folder of a sweep


def default_storage(directory: Path) -> str:
    """The storage of a sweep for which none was given."""
    return f"{SQLITE}{directory.absolute() / DATABASE}"


def absolute(storage: str) -> str:
    """A storage that is the same from each working directory."""
    prefix = SQLITE if storage.startswith(SQLITE) else ""
    if "://" in storage and not prefix:
        return storage
    return f"{prefix}{Path(storage.removeprefix(prefix)).expanduser().absolute()}"


def existing(directory: Path, storage: str) -> str:
    """The storage of the sweep in a folder, which may have been moved together with it.

    Raises:
        FileNotFoundError: its file is gone; Optuna would make an empty one.
    """
    prefix = SQLITE if storage.startswith(SQLITE) else ""
    if "://" in storage and not prefix:
        return storage
    file = Path(storage.removeprefix(prefix)).expanduser()
    inside = directory / file.name
    file = inside if inside.is_file() else file
    if not file.is_file():
        raise FileNotFoundError(f"the study of the sweep in {directory} is gone: there is no file {file}")
    return f"{prefix}{file.absolute()}"


def open_storage(storage: str) -> optuna.storages.BaseStorage:
    """Optuna's storage of a URL, such as sqlite:///FILE or postgresql://..., or of a journal file, FILE.log.

    Raises:
        ValueError: it is neither, or cannot be opened.
    """
    from sqlalchemy.exc import SQLAlchemyError

    if storage.endswith(".log") and "://" not in storage:
        backend = optuna.storages.journal.JournalFileBackend(str(Path(storage).expanduser()))
        return optuna.storages.JournalStorage(backend)
    if "://" not in storage:
        raise ValueError(
            f"storage is {storage!r}; it must be a URL, such as postgresql://USER@HOST/DATABASE, or a journal FILE.log"
        )
    # several workers write to it
    engine = {"connect_args": {"timeout": 60}} if storage.startswith("sqlite") else {}
    try:
        return optuna.storages.RDBStorage(storage, engine_kwargs=engine)
    except (SQLAlchemyError, ImportError) as error:  # no database, no server, or no driver for it
        raise ValueError(f"the storage {storage} cannot be opened: {one_line(error)}") from error


def load_study(storage: str) -> optuna.Study:
    """The study of a sweep.

    Raises:
        ValueError: the storage cannot be opened, or has no sweep.
    """
    try:
        study = optuna.load_study(study_name=NAME, storage=open_storage(storage))
    except KeyError:
        raise ValueError(f"there is no sweep in {storage}") from None
    if [direction.name for direction in study.directions] != ["MAXIMIZE"]:
        raise ValueError(f"the study {NAME!r} in {storage} is not of a sweep: it must maximize one score")
    return study
