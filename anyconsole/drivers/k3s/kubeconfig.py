"""The kubeconfig of a new cluster: k3s' own, made to be used from here. It is a key to everything: only these lines ever hold it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from anyconsole.errors import AnyconsoleError

__all__ = ["authority_in", "made_of", "write_new"]


def made_of(text: bytes, server: str, cluster: str, context: str) -> str:
    """k3s' kubeconfig with another server, and names that tell it from others.

    Args:
        text: As k3s wrote it, for 127.0.0.1.
        server: Where the API server is reached.
        cluster: What the cluster, and in it the user, is called.
        context: What the context is called.

    Raises:
        AnyconsoleError: It isn't one; nothing of it is in the message.
    """
    import yaml  # noqa: PLC0415 - only who makes a cluster pays for it

    try:
        found = yaml.safe_load(text)
        authority = str(found["clusters"][0]["cluster"]["certificate-authority-data"])
        user: dict[str, Any] = {key: str(value) for key, value in found["users"][0]["user"].items()}
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError):
        raise AnyconsoleError("k3s' kubeconfig isn't one that can be understood") from None
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": cluster, "cluster": {"certificate-authority-data": authority, "server": server}}
            ],
            "users": [{"name": f"admin@{cluster}", "user": user}],
            "contexts": [{"name": context, "context": {"cluster": cluster, "user": f"admin@{cluster}"}}],
            "current-context": context,
        },
        sort_keys=False,
    )  # fmt: skip


def authority_in(path: Path) -> str | None:
    """The SHA-256 of the authority that a kubeconfig trusts, "" where that can't be told, None if there is no file."""
    import yaml  # noqa: PLC0415 - as above

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""
    try:
        authority = str(yaml.safe_load(text)["clusters"][0]["cluster"]["certificate-authority-data"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        return ""
    return hashlib.sha256(authority.encode()).hexdigest()


def write_new(path: Path, text: str) -> None:
    """Write a file that only its owner may read, as a whole or not at all, and never over another one. Raises AnyconsoleError."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(file, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(part, path)
        finally:
            part.unlink()
    except FileExistsError:
        raise AnyconsoleError(f"{path} is there already, and is left as it is: move it away") from None
    except OSError as error:
        raise AnyconsoleError(f"{path}: can't be written: {error.strerror}") from error
