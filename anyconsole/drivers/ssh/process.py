"""What a fleet of connections needs of its process: file descriptors, and libraries that don't write on the screen."""

from __future__ import annotations

import logging
import resource
import warnings

__all__ = ["quiet_libraries", "raise_file_limit"]


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
