"""Runs trials so that each is done once, whoever does it and however often it is asked for.

A trial is a directory named by the digest of its config. It is claimed by locking a file
beside it, which the system unlocks when the process ends, in whatever way; it is written
under another name and renamed. So a killed study goes on where it was, and several processes
on several machines can share one.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, Any

from scarce.data import write
from scarce.errors import InputError
from scarce.study.grid import Task
from scarce.study.measure import measure
from scarce.study.workers import open_workers
from scarce.trial import Progress, silent

__all__ = ["attempt", "read_result", "run_tasks"]

_RESULT = "result.json"
_PAUSE = 1.0
"""Seconds between two looks at a trial that another process is running."""

_ALONE = threading.Lock()
"""One trial at a time in a process: a second would share its random state and memory peak."""


def run_tasks(
    tasks: Sequence[Task],
    directory: Path,
    *,
    n_workers: int = 1,
    scheduler: str | None = None,
    title: str = "trials",
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Run the trials that are missing and return the results of all, in their order.

    Parameters
    ----------
    tasks
        The trials.
    directory
        Where their directories are; made if it does not exist.
    n_workers, scheduler
        See `open_workers`.
    title
        Of the progress bar.
    progress
        Opens a progress bar over the trials that are missing.

    Returns
    -------
    For each trial ``values`` and ``wall_seconds``, see `measure`, or ``error``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    missing = [task for task in tasks if not _is_done(directory, task)]
    done = count(1)
    with progress(title, len(missing)) as reached:

        def count_if_done(task: Task, _: Future[None]) -> None:
            if _is_done(directory, task):
                reached(next(done))

        while missing:
            with open_workers(n_workers, scheduler) as executor:
                futures = []
                for task in missing:
                    future = executor.submit(attempt, task, directory)
                    future.add_done_callback(partial(count_if_done, task))
                    futures.append(future)
                broken = [_is_broken(future) for future in as_completed(futures)]
            missing = [task for task in missing if not _is_done(directory, task)]
            if any(broken):
                _run_alone(missing, directory)
            elif missing:
                time.sleep(_PAUSE)
    return [read_result(directory, task) for task in tasks]


def attempt(task: Task, directory: Path) -> None:
    """Run a trial and write its directory, unless it is done or being done elsewhere.

    A trial that fails is done too: its result is the error.
    """
    if _is_done(directory, task):
        return
    key = task.config.key
    with _ALONE, _claim(directory / f".{key}.lock") as is_mine:
        if not is_mine or _is_done(directory, task):
            return
        for left in directory.glob(f".{key}.*.new"):
            shutil.rmtree(left)  # of a process that was killed
        try:
            result = measure(task)
        except Exception as error:  # noqa: BLE001 - one trial must not end the study
            result = {"error": f"{type(error).__name__}: {error}"}
        _commit(task, directory, result)


def read_result(directory: Path, task: Task) -> dict[str, Any]:
    """Return what a finished trial found."""
    text = (directory / task.config.key / _RESULT).read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(text)
    return result


def _commit(task: Task, directory: Path, result: dict[str, object]) -> None:
    with write.new_directory(directory / task.config.key) as folder:
        write.json(folder / "config.json", asdict(task.config))
        write.json(folder / _RESULT, result)
    with suppress(PermissionError):  # Windows keeps a file that is open, as this one may be
        (directory / f".{task.config.key}.lock").unlink(missing_ok=True)


def _is_done(directory: Path, task: Task) -> bool:
    return (directory / task.config.key / _RESULT).is_file()


def _is_broken(future: Future[None]) -> bool:
    """Whether a worker died under this trial, or with it in the queue; other errors are raised."""
    error = None if future.cancelled() else future.exception()
    if error is None or isinstance(error, BrokenExecutor | CancelledError):
        return error is not None
    if type(error).__name__ == "KilledWorker":  # of Dask, which may not be installed
        return True
    raise error


def _run_alone(tasks: Sequence[Task], directory: Path) -> None:
    """Run each trial in a process of its own, to tell the one that kills it from the others."""
    for task in tasks:
        with open_workers(2) as executor:
            future = executor.submit(attempt, task, directory)
            died = future.exception() is not None
        if died:
            error = "its process was killed, as happens when memory runs out"
            with _claim(directory / f".{task.config.key}.lock") as is_mine:
                if is_mine and not _is_done(directory, task):
                    _commit(task, directory, {"error": error})


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Lock a file for as long as the block runs or this process lives; yield whether it worked."""
    with path.open("a+b") as file:
        is_mine = _lock(file)
        yield is_mine


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed, unless another process has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        raise InputError(
            f"--out must be on a file system with locks, so that no trial runs twice; found "
            f"{error.strerror} in {file.name}. Choose another directory."
        ) from error
    return True
