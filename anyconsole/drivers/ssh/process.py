"""What a fleet of connections needs of its process: file descriptors, threads, and libraries that don't write on the screen."""

from __future__ import annotations

import logging
import queue
import resource
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ["DaemonThreads", "quiet_libraries", "raise_file_limit"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DaemonThreads(ThreadPoolExecutor):
    """An event loop's default executor that nobody waits for: without DNS a name look-up takes half a minute, quitting must not."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._todo: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._count = count
        self._started = 0

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run `fn` in one of the threads."""
        future: Future[_T] = Future()
        self._todo.put((future, lambda: fn(*args, **kwargs)))
        if self._started < self._count:
            self._started += 1
            threading.Thread(target=self._work, name=f"executor {self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The threads are daemons: they end with the process."""

    def _work(self) -> None:
        while True:
            future, job = self._todo.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
                future.set_exception(error)
            else:
                future.set_result(result)


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one: a thousand nodes are a thousand sockets. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def quiet_libraries() -> None:
    """Keep asyncssh and cryptography off stderr, which is the operator's screen; a log file still gets their errors."""
    for name in ("asyncssh", "py.warnings", "urllib3"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            # Without any handler Python prints warnings on stderr as a last resort.
            logger.addHandler(logging.NullHandler())
    logging.getLogger("asyncssh").setLevel(logging.ERROR)
    for module in ("asyncssh", "cryptography"):
        warnings.filterwarnings("ignore", module=rf"{module}(\..*)?")
