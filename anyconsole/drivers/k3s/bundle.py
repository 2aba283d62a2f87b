"""What k3s and Calico take, file by file under the vendors' own names: from a folder of this machine, checked, or still missing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from anyconsole.drivers.k3s.layout import BINARY, FOLDER, IMAGES
from anyconsole.model.bootstrap import VENDOR, Bootstrap

__all__ = ["BundleFile", "Supply", "release_url", "sources", "supply_of", "wanted"]

_ARCHIVES: Final = (".tar.zst", ".tar.gz", ".tar")
_INSTALLER: Final = "install.sh"
_LARGEST_LIST: Final = 1 << 20
_CALICO_IMAGES: Final = (
    "the images that Calico's manifests name, in archives NAME.tar, .tar.gz or .tar.zst (docker save)"
)


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that goes to the host: from where, to where, bytes, SHA-256, mode; `of_k3s` is not needed any more once k3s runs."""

    source: str
    target: str
    size: int
    sha256: str
    mode: str = "644"
    of_k3s: bool = True


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of all that it takes. `problems` are what is missing or wrong, each with what to put where."""

    files: tuple[BundleFile, ...] = ()
    problems: tuple[str, ...] = ()


def release_url(version: str) -> str:
    """Where the files of a release of k3s are."""
    return f"https://github.com/k3s-io/k3s/releases/download/{quote(version, safe='')}"


def sources(boot: Bootstrap, arch: str) -> tuple[list[str], list[str]]:
    """What the host must be able to fetch by itself where there is no bundle, and the registries that must answer."""
    if boot.bundle:
        return [], []
    found = [f"{release_url(boot.version)}/sha256sum-{arch}.txt", *boot.calico]
    if boot.installer_url:
        found.insert(0, boot.installer_url)
    return found, ["https://registry-1.docker.io/v2/", "https://quay.io/v2/"]


def wanted(boot: Bootstrap, arch: str) -> list[str]:
    """What a bundle for this version and architecture consists of, each with where it comes from."""
    release = f"https://github.com/k3s-io/k3s/releases/tag/{quote(boot.version, safe='')}"
    return [
        f"{_binary(arch)} ({release})",
        f"{_images(arch)}.tar.zst, .tar.gz or .tar (there)",
        f"{_sums(arch)} (there)",
        f"{_INSTALLER} ({VENDOR})",
        *(f"{_name(manifest)} (Calico's release, folder manifests)" for manifest in boot.calico),
        _CALICO_IMAGES,
    ]


def supply_of(boot: Bootstrap, arch: str) -> Supply:
    """The files that are sent: all of a bundle, or an installer of this machine. Reads and checks them; blocks while it does."""
    if not boot.bundle:
        if boot.installer_url:
            return Supply()
        path = Path(boot.installer)
        if not path.is_file():
            return Supply(problems=(f"installer: there is no file {path}",))
        return Supply(files=(_file(path, f"{FOLDER}/{_INSTALLER}"),))
    folder = Path(boot.bundle)
    if not folder.is_dir():
        return Supply(problems=(f"there is no folder {folder}; it takes {'; '.join(wanted(boot, arch))}",))
    files: list[BundleFile] = []
    problems: list[str] = []
    listed = _listed(folder / _sums(arch))
    for place in _places(folder, boot, arch):
        if place.path is None:
            problems.append(f"{folder}: {place.what} is missing")
            continue
        one = _file(place.path, place.target, mode=place.mode, of_k3s=place.of_k3s)
        if place.is_released and listed and listed.get(place.path.name) != one.sha256:
            problems.append(
                f"{place.path}: isn't what {_sums(arch)} lists: {'another SHA-256' if place.path.name in listed else 'not listed'}"
            )
        files.append(one)
    if not listed:
        problems.append(f"{folder}: {_sums(arch)} ({release_url(boot.version)}/{_sums(arch)}) is missing, or isn't one")
    return Supply(files=tuple(files), problems=tuple(problems))


class _Place(msgspec.Struct, kw_only=True):
    """Where something belongs; `path` is None if it isn't in the bundle. `is_released`: the vendor's list of checksums has it."""

    what: str
    target: str
    path: Path | None
    mode: str = "644"
    is_released: bool = False
    of_k3s: bool = True


def _places(folder: Path, boot: Bootstrap, arch: str) -> Iterator[_Place]:
    words = iter(wanted(boot, arch))
    yield _Place(
        what=next(words), target=BINARY, path=_there(folder / _binary(arch)), mode="755", is_released=True
    )  # fmt: skip
    archive = next((path for end in _ARCHIVES if (path := _there(folder / f"{_images(arch)}{end}"))), None)
    yield _Place(
        what=next(words), target=f"{IMAGES}/{archive.name if archive else ''}", path=archive, is_released=True
    )  # fmt: skip
    next(words)  # the checksums stay here
    yield _Place(
        what=next(words),
        target=f"{FOLDER}/{_INSTALLER}",
        path=_there(Path(boot.installer) if boot.installer else folder / _INSTALLER),
    )
    for manifest in boot.calico:
        path = _there(folder / manifest)
        yield _Place(what=next(words), target=f"{FOLDER}/{manifest}", path=path, of_k3s=False)
    others = [
        path
        for path in sorted(folder.iterdir())
        if path.name.endswith(_ARCHIVES)
        and path.is_file()
        and not path.name.startswith("k3s-airgap-images-")
        and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", path.name)
    ]
    for path in others:
        yield _Place(what=path.name, target=f"{IMAGES}/{path.name}", path=path, of_k3s=False)
    if not others:
        yield _Place(what=next(words), target="", path=None)


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _name(manifest: str) -> str:
    return manifest.rpartition("/")[2]


def _binary(arch: str) -> str:
    return "k3s" if arch == "amd64" else f"k3s-{arch}"


def _images(arch: str) -> str:
    return f"k3s-airgap-images-{arch}"


def _sums(arch: str) -> str:
    return f"sha256sum-{arch}.txt"


def _listed(path: Path) -> dict[str, str]:
    """The vendor's checksums by file name; {} if there are none that can be read."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_LIST)
    except (OSError, UnicodeDecodeError):
        return {}
    return {match[2]: match[1] for match in re.finditer(r"^([0-9a-f]{64}) [ *](\S+)$", text, re.MULTILINE)}


def _file(path: Path, target: str, *, mode: str = "644", of_k3s: bool = True) -> BundleFile:
    state = path.stat()
    digest = _digest(str(path), state.st_size, state.st_mtime_ns)
    return BundleFile(
        source=str(path), target=target, size=state.st_size, sha256=digest, mode=mode, of_k3s=of_k3s
    )  # fmt: skip


@lru_cache(maxsize=64)
def _digest(path: str, size: int, modified: int) -> str:  # noqa: ARG001 - a file that was written to is another one
    with open(path, "rb") as file:  # noqa: PTH123 - hashlib wants a file
        return hashlib.file_digest(file, "sha256").hexdigest()
