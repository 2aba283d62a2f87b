"""Takes a change of what a cluster announces back unless it is confirmed in time: the dead-man, a Job beside each unconfirmed change.

Runs as `python3 -I -c PROGRAM` on Python 3.10 or newer with nothing but its standard library, as a ServiceAccount that may do little else.
What it watches over is in the environment, as JSON; it is the only one who ever takes that change back, so nobody gets in its way.

The change has an annotation of its Node as its mark: TOKEN while it isn't confirmed, TOKEN ASKED when the console wants it back,
TOKEN GOING once the dead-man has claimed it, gone when it is confirmed or was taken back. Confirming and claiming both compare and swap,
so one of them wins. While the dead-man lives it renews the Lease that keeps others from changing the cluster, and at the end it frees it.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

RENEWAL = 10.0
PATIENCE = 10.0
"""Seconds that one answer of the API server may take."""
LONGEST_PAUSE = 10.0

ARMED = "anyconsole.io/dead-man"
"""The annotation of the Lease that says whose dead-man is awake."""

Json = dict[str, Any]


class RefusedError(Exception):
    """The API server said no."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{words} ({status})")
        self.status = status


TROUBLES = (RefusedError, OSError, http.client.HTTPException, ValueError)


class Api:
    """The API server, as a pod finds it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder = Path(environment["ACCOUNT"])
        self._host = environment["KUBERNETES_SERVICE_HOST"]
        self._port = int(environment["KUBERNETES_SERVICE_PORT"])

    def get(self, path: str) -> Json:
        """An object. Raises TROUBLES, as all do here."""
        return self.send("GET", path)

    def merge(self, path: str, body: Json) -> Json:
        """Change an object (RFC 7396)."""
        return self.send("PATCH", path, body, "application/merge-patch+json")

    def send(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Json:
        """Ask for something, on a connection of its own: it may be minutes since the last."""
        # The token is renewed now and then.
        token = (self._folder / "token").read_text().strip()
        context = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=PATIENCE, context=context)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "Accept": "application/json"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        found = json.loads(said or b"{}")
        if not isinstance(found, dict):
            raise ValueError(f"{path}: the answer is no object")
        if answer.status >= 300:
            raise RefusedError(answer.status, f"{method} {path}: {found.get('message') or answer.reason}")
        return found


class DeadMan:
    """Watches over one change.

    Attributes:
        is_needed: True once it has begun to take the change back: then it isn't to be ended.
    """

    def __init__(self, api: Api, change: Json) -> None:
        self.is_needed = False
        self._api = api
        self._token: str = change["token"]
        self._asked = f"{self._token} {change['asked']}"
        self._going = f"{self._token} {change['going']}"
        self._mark: str = change["mark"]
        self._node: str = change["node"]
        self._lease: str = change["lease"]
        self._hold: float = change["hold"]
        self._pace: float = change["pace"]
        self._undo: list[Json] = change["undo"]
        self._before: Json = change["before"]
        self._after: Json = change["after"]
        self._renewed = 0.0
        self._version = ""
        self._is_after = False

    def run(self) -> None:
        """Until the change is confirmed, or was taken back, or never came."""
        began = time.monotonic()
        armed = self._until(self._arm)
        if armed is None:
            say("the lock is somebody else's")
            return
        ends = began + self._hold - armed
        say(f"{self._token}: takes it back in {ends - began:.0f} s unless it is confirmed")
        was_marked = False
        while True:
            time.sleep(self._pace)
            now = time.monotonic()
            try:
                found = self._marked()
                if found in (self._token, self._asked):
                    was_marked = True
                    if (found == self._asked or now >= ends) and self._claim(found):
                        break
                elif found == self._going:  # another of us, that was ended on the way
                    break
                elif was_marked or self._is_after or now >= ends:
                    say("confirmed" if was_marked or self._is_after else "nothing was ever changed")
                    self._until(self._free)
                    return
                self._renew(now)
            except TROUBLES as trouble:
                say(trouble)
        self._take_back()

    def _until(self, act: Any) -> Any:  # noqa: ANN401 - whatever it returns
        """Do something until it can be done."""
        pause = self._pace / 2
        while True:
            try:
                return act()
            except TROUBLES as trouble:
                say(trouble)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    # The lock

    def _arm(self) -> float | None:
        """Say on the lock that it is awake; seconds since it did so for the first time, None if the lock isn't its own."""
        try:
            lease = self._api.get(self._lease)
        except RefusedError as refused:
            if refused.status != 404:
                raise
            return None
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") != self._token:
            return None
        now = dt.datetime.now(dt.timezone.utc)  # noqa: UP017 - Python 3.10
        had = spec.get("acquireTime")
        since = dt.datetime.fromisoformat(had.replace("Z", "+00:00")) if had else now  # noqa: FURB162 - as above
        times = {"acquireTime": had or moment(now), "renewTime": moment(now)}
        metadata = {"annotations": {ARMED: self._token}, "resourceVersion": lease["metadata"]["resourceVersion"]}
        self._api.merge(self._lease, {"metadata": metadata, "spec": times})
        self._renewed = time.monotonic()
        return min(max((now - since).total_seconds(), 0.0), self._hold)

    def _renew(self, now: float) -> None:
        if now - self._renewed >= RENEWAL:
            self._arm()

    def _free(self) -> None:
        """Give the lock back, if it is its own."""
        try:
            lease = self._api.get(self._lease)
            if (lease.get("spec") or {}).get("holderIdentity") == self._token:
                version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
                options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": version}
                self._api.send("DELETE", self._lease, options)
        except RefusedError as refused:
            if refused.status != 404:
                raise

    # The change

    def _marked(self) -> str | None:
        """What the Node says of an unconfirmed change. One whose Node is gone stays unconfirmed."""
        try:
            node = self._api.get(self._node)
        except RefusedError as refused:
            if refused.status != 404:
                raise
            return self._token
        self._version = node["metadata"]["resourceVersion"]
        annotations = node["metadata"].get("annotations") or {}
        self._is_after = has(self._after, annotations)
        found = annotations.get(self._mark)
        return None if found is None else str(found)

    def _claim(self, found: str) -> bool:
        """From here on it can't be confirmed any more. False if something happened meanwhile."""
        metadata = {"resourceVersion": self._version, "annotations": {self._mark: self._going}}
        try:
            self._api.merge(self._node, {"metadata": metadata})
        except RefusedError as refused:
            if refused.status == 409:
                return False
            if refused.status != 404:
                raise
        say("asked to take it back" if found == self._asked else "not confirmed in time: it goes back")
        return True

    def _take_back(self) -> None:
        self.is_needed = True
        self._until(self._undo_all)
        self._until(self._unmark)
        self._until(self._free)
        say("as before")

    def _undo_all(self) -> None:
        """All calls in their order, from the beginning if one fails: what was done already does nothing then."""
        skipped = ""
        for call in self._undo:
            if self._marked() not in (self._going, self._token):
                return  # another of us has done it
            path, skip, skipped = call["path"], skipped, ""
            if call["verb"] == "EXPECT":
                skipped = "" if self._holds(path, call["body"]) else path
            elif path != skip:
                self._carry_out(call)
            if time.monotonic() - self._renewed >= RENEWAL:
                self._arm()

    def _holds(self, path: str, expected: Json) -> bool:
        try:
            return has(expected, self._api.get(path))
        except RefusedError as refused:
            if refused.status != 404:
                raise
            return False

    def _carry_out(self, call: Json) -> None:
        """One call that is none any more if it was carried out before."""
        try:
            match call["verb"]:
                case "CREATE":
                    self._api.send("POST", call["path"], call["body"])
                case "DELETE":
                    self._api.send("DELETE", call["path"])
                case "MERGE":
                    self._api.merge(call["path"], call["body"])
        except RefusedError as refused:
            if refused.status != (409 if call["verb"] == "CREATE" else 404):
                raise

    def _unmark(self) -> None:
        """Tell that all is as before, in the same moment in which the mark goes."""
        if self._marked() != self._going:
            return
        annotations = self._before | {self._mark: None}
        try:
            self._api.merge(self._node, {"metadata": {"resourceVersion": self._version, "annotations": annotations}})
        except RefusedError as refused:
            if refused.status != 404:
                raise


def has(expected: object, found: object) -> bool:
    """Whether an object has all that is expected of it; None is "not there"."""
    if isinstance(expected, dict) and (found is None or isinstance(found, dict)):
        held = found or {}
        return all(has(value, held.get(key)) for key, value in expected.items())
    return expected == found


def moment(at: dt.datetime) -> str:
    """A time as a Lease tells it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def say(words: object) -> None:
    """Into the log of the pod."""
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    """Run as the process of a container, whose first process has to take its leave itself."""
    dead_man = DeadMan(Api(os.environ), json.loads(os.environ["CHANGE"]))

    def leave(_number: int, _frame: FrameType | None) -> None:
        # The Job starts another one, which goes on.
        if not dead_man.is_needed:
            os._exit(1)

    signal.signal(signal.SIGTERM, leave)
    dead_man.run()


if __name__ == "__main__":
    main()
