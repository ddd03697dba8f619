"""Who does the work: this process, processes of this machine, or a Dask cluster.

Each is a `concurrent.futures.Executor`, so that one ``submit`` is all a study needs to know.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from scarce import check
from scarce.errors import InputError

__all__ = ["open_workers"]

P = ParamSpec("P")
T = TypeVar("T")


class _Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - the future hands it on
            future.set_exception(error)
        return future


@contextmanager
def open_workers(n_workers: int, scheduler: str | None = None) -> Iterator[Executor]:
    """Open an executor.

    Parameters
    ----------
    n_workers
        Processes; with 1, this one.
    scheduler
        Address of a Dask scheduler, such as ``"tcp://10.0.0.1:8786"``, instead. Its workers
        need this package, the data under the same paths, and the output directory.

    Raises
    ------
    InputError
        If there are no workers, Dask is not installed or the scheduler does not answer.
    """
    check.in_range("workers", n_workers, least=1, whole=True)
    if scheduler is not None:
        with _dask(scheduler) as executor:
            yield executor
    elif n_workers == 1:
        yield _Here()
    else:
        # Spawned: a fork would copy locks that threads of this process hold.
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(n_workers, context, initializer=_end_with_parent)
        try:
            yield executor
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _dask(scheduler: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "--scheduler needs Dask; it is not installed: pip install dask distributed, or pass "
            "--workers instead."
        ) from error
    try:
        client = Client(scheduler, timeout=10)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--scheduler must be the address of a running Dask scheduler; {scheduler!r} did not "
            "answer. Start one with: dask scheduler."
        ) from error
    with client:
        # Not pure: the same trial may be submitted again after it was busy elsewhere.
        yield client.get_executor(pure=False)


def _end_with_parent() -> None:
    """End this worker when its parent is killed, which could not tell it so."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
