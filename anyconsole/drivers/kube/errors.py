"""What goes wrong between us and a cluster, as one error that says what an operator can do about it."""

from __future__ import annotations

from typing import Final

from anyconsole.drivers.ssh.fault import Fault, plain
from anyconsole.errors import AnyconsoleError

__all__ = ["KubeError"]

_LONGEST: Final = 600


class KubeError(AnyconsoleError):
    """A request to a cluster failed, or could not be made. Its message is one bounded line, names the cluster and holds no secret.

    Attributes:
        status: The HTTP status (or that of a Status object), 0 if there was none.
        reason: The reason of the Status object (NotFound, Conflict, Expired, ...), "" if there was none.
        fault: The word for a link's `error`.
        retry_after: Seconds that the server asks us to wait, None if it doesn't.
        maybe_done: The request was sent and no answer came: a change may or may not have been made.
        causes: The reasons of the Status object's causes.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        reason: str = "",
        fault: Fault = Fault.PROBE,
        retry_after: float | None = None,
        maybe_done: bool = False,
        causes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(plain(message, _LONGEST))
        self.status = status
        self.reason = plain(reason, 80)
        self.fault = Fault.AUTH if status in {401, 403} else fault
        self.retry_after = retry_after
        self.maybe_done = maybe_done
        self.causes = causes

    @property
    def is_expired(self) -> bool:
        """Whether the server no longer knows the past that was asked for (or doesn't know it yet): what is there must be listed anew."""
        return self.status == 410 or self.reason in {"Expired", "Gone"} or "ResourceVersionTooLarge" in self.causes
