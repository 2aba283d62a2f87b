"""What a pod's status means: whether it works, is coming or going, or fails. Pure functions of store and clock."""

from __future__ import annotations

import msgspec

from anyconsole.model.cluster_state import is_done, is_passing
from anyconsole.model.pods import Pod
from anyconsole.model.store import FleetStore
from anyconsole.model.table import duration
from anyconsole.model.verdicts import Verdict

__all__ = ["PodVerdict", "pod_verdict"]


class PodVerdict(msgspec.Struct, frozen=True):
    """How a pod is. `words` is kubectl's word while the evidence is fresh, `age` is that of the evidence in seconds."""

    verdict: Verdict
    words: str
    reason: str
    age: float


def pod_verdict(store: FleetStore, pod: Pod, now: float) -> PodVerdict:
    """DOWN if its status is one of failing, DEGRADED while it comes, goes or isn't ready, SERVING if it is ready or done."""
    age = store.age(pod, now)
    if not store.is_fresh(pod, now):
        return PodVerdict(Verdict.STALE, "", f"was {pod.status} {duration(age)} ago", age)
    if is_done(pod) or (pod.is_ready and pod.status == "Running"):
        return PodVerdict(Verdict.SERVING, pod.status, "", age)
    verdict = Verdict.DEGRADED if is_passing(pod) else Verdict.DOWN
    return PodVerdict(verdict, pod.status, pod.trouble, age)
