"""A fake Kubernetes API server, true enough that clients can't tell: gated by the same contract that a real one passes.

`FakeCluster` is all that tests need; each module says which part of the API it is.
"""

from tests.kube.apiserver.calico import API_GROUP, CRD_GROUP
from tests.kube.apiserver.cluster import FakeCluster
from tests.kube.apiserver.errors import ApiError
from tests.kube.apiserver.scripts import Behaviour, ExecCall, JobRun, run_here
from tests.kube.apiserver.server import Fault

__all__ = ["API_GROUP", "CRD_GROUP", "ApiError", "Behaviour", "ExecCall", "FakeCluster", "Fault", "JobRun", "run_here"]
