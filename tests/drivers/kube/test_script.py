"""Scripts of API calls read back as they were written, say what they need, and end in words that fit what happened."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyconsole.drivers.kube.errors import KubeError
from anyconsole.drivers.kube.execute import Sender, carry_out
from anyconsole.drivers.kube.script import Call, ScriptError, Verb, needed, parse, render
from anyconsole.drivers.transaction import Ended
from anyconsole.model.pods import Permission

NODE = "/api/v1/nodes/node-1"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/anyconsole/leases"

TEXT = st.text(alphabet=st.sampled_from("ab #:-|>\n\t'\"{}é$"), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
CALLS = st.builds(
    Call,
    verb=st.just(Verb.MERGE),
    path=st.just(NODE),
    body=st.dictionaries(st.text("ab", min_size=1, max_size=3), VALUES, min_size=1, max_size=3),
    if_exists=st.booleans(),
)


@settings(max_examples=50, deadline=None)
@given(st.lists(CALLS, max_size=4))
def test_a_script_reads_back_as_it_was_written(calls: list[Call]) -> None:
    assert parse(render(calls)) == calls


def test_a_program_in_a_body_can_be_read_as_one() -> None:
    body = {"command": ["python3", "-c", "import sys\n\nif sys.argv:\n    print('yes')\n"]}
    text = render([Call(verb=Verb.CREATE, path=LEASES, body=body)])
    assert "    import sys\n" in text
    assert "\\n" not in text
    assert parse(text)[0].body == body


@pytest.mark.parametrize("lenient", ["if_exists", "unless_exists", "else_skip", "force"])
def test_what_is_lenient_stays_so(lenient: str) -> None:
    call = msgspec.structs.replace(Call(verb=Verb.EXPECT, path=NODE, body={"a": 1}), **{lenient: True})
    assert parse(render([call])) == [call]


@pytest.mark.parametrize(
    "text", ["GET /api/v1/nodes\n", "MERGE nodes\n", "  a: 1\n", "MERGE /a\n  - 1\n", "MERGE /a\n  a: [\n"]
)
def test_what_is_no_script_is_no_script(text: str) -> None:
    with pytest.raises(ScriptError):
        parse(text)


def test_what_calls_need_is_told_by_resource_and_namespace() -> None:
    calls = [
        Call(verb=Verb.EXPECT, path=NODE, body={}),
        Call(verb=Verb.MERGE, path=NODE, body={}),
        Call(verb=Verb.CREATE, path=LEASES, body={}),
        Call(verb=Verb.DELETE, path=f"{LEASES}/x"),
        Call(verb=Verb.MERGE, path="/apis/apps/v1/namespaces/de/deployments/ns/scale", body={}),
    ]
    assert [str(permission) for permission in needed(calls)] == [
        "get nodes in all namespaces",
        "patch nodes in all namespaces",
        "create leases.coordination.k8s.io in anyconsole",
        "delete leases.coordination.k8s.io in anyconsole",
        "patch deployments/scale.apps in de",
    ]
    assert needed([Call(verb=Verb.APPLY, path="/api/v1/namespaces/de", body={})])[0] == Permission(
        verb="create", resource="namespaces"
    )


class Server(Sender):
    """An API server with one node and no leases, that refuses what it is told to."""

    def __init__(self, **refuses: int) -> None:
        self.node: dict[str, Any] = {"metadata": {"name": "node-1", "resourceVersion": "1"}, "spec": {"a": 1}}
        self.refuses = refuses
        self.sent: list[str] = []

    async def get(self, path: str, **_query: str) -> dict[str, Any]:
        if path != NODE:
            raise KubeError("not found", status=404)
        return self.node

    async def send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,  # noqa: ARG002
        *,
        content_type: str = "",  # noqa: ARG002
        **_query: str,
    ) -> dict[str, Any]:
        if (status := self.refuses.get(method, 0)) != 0:
            raise KubeError(f"{method} refused", status=status)
        self.sent.append(f"{method} {path}")
        return self.node


async def ended(server: Server, *calls: Call, dry_run: bool = False) -> Ended:
    said = await carry_out(server, render(calls), 5, dry_run=dry_run)
    return Ended(said.exit_status)


EXPECTED = Call(verb=Verb.EXPECT, path=NODE, body={"spec": {"a": 1, "b": None}})
OTHER = msgspec.structs.replace(EXPECTED, body={"spec": {"a": 2}})
MERGE = Call(verb=Verb.MERGE, path=NODE, body={"spec": {"a": 3}})
CREATE = Call(verb=Verb.CREATE, path=LEASES, body={"metadata": {"name": "x"}})


async def test_what_is_not_as_expected_ends_a_script_or_leaves_one_call_out() -> None:
    assert await ended(server := Server(), OTHER, MERGE) is Ended.STALE
    assert server.sent == []
    skip = msgspec.structs.replace(OTHER, else_skip=True)
    assert await ended(server := Server(), skip, MERGE, CREATE) is Ended.DONE
    assert server.sent == [f"POST {LEASES}"]
    gone = Call(verb=Verb.EXPECT, path=f"{LEASES}/x", body={"spec": {}}, else_skip=True)
    assert await ended(server := Server(), gone, Call(verb=Verb.DELETE, path=f"{LEASES}/x"), MERGE) is Ended.DONE
    assert server.sent == [f"PATCH {NODE}"]
    assert await ended(server := Server(), EXPECTED, MERGE) is Ended.DONE
    assert server.sent == [f"PATCH {NODE}"]


async def test_a_lock_that_is_held_is_told_from_a_state_that_is_another() -> None:
    assert await ended(Server(POST=409), EXPECTED, CREATE) is Ended.LOCKED
    assert await ended(Server(POST=409), MERGE, CREATE) is Ended.REFUSED
    assert await ended(Server(POST=403), CREATE) is Ended.CANNOT_WRITE


async def test_a_trial_changes_nothing_however_it_ends() -> None:
    assert await ended(Server(POST=403), MERGE, CREATE, dry_run=True) is Ended.CANNOT_WRITE


async def test_a_server_that_is_too_busy_decided_nothing() -> None:
    with pytest.raises(KubeError):
        await ended(Server(POST=429), CREATE)
