"""The cache folder, and writing into it so that a later run finds whole files or none."""

import contextlib
import errno
import hashlib
import logging
import os
import pathlib
import secrets
import shutil
import tempfile
import time

from tfmusictag.errors import ModelError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_log = logging.getLogger(__name__)

# Temporary names are <prefix><process id>-<random>-<final name>: the end stays, since Keras looks at it.
_PREFIX = ".tfmusictag-"
_STALE_S = 24 * 60 * 60
# Longer than the holder of a lock may take to download (`wheel.TIME_LIMIT_S`).
_LOCK_WAIT_S = 35 * 60
_POLL_S = 0.1
# A disk that is full in one way or another; RLIMIT_FSIZE shows as EFBIG.
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def folder():
    """Returns the cache folder: `TFMUSICTAG_CACHE`, else `XDG_CACHE_HOME`/tfmusictag, else ~/.cache/tfmusictag."""
    if own := os.environ.get("TFMUSICTAG_CACHE"):
        return pathlib.Path(os.path.abspath(os.path.expanduser(own)))
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    base = pathlib.Path(base) if os.path.isabs(base) else pathlib.Path(os.path.expanduser("~")) / ".cache"
    return base / "tfmusictag"


def offline():
    """Tells whether `TFMUSICTAG_OFFLINE` forbids the use of the network; "0" and the empty string do not."""
    return os.environ.get("TFMUSICTAG_OFFLINE", "") not in ("", "0")


def sha256(path):
    """Returns the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_write(path):
    """Gives a temporary path beside `path` to write to; on leaving, the whole file takes its name at once.

    The file is on the disk before it is renamed. After an exception nothing is left, and an older file stays as it was.

    Raises:
        ModelError: "cache_unwritable", a full disk or a folder that cannot be written to.
    """
    path = pathlib.Path(path)
    with _explained(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        temporary = _temporary(path)
        # Made here, so that a lack of permission shows here and is not mistaken for an error of the writer's own.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        with _explained(path.parent, only=FULL):
            yield temporary
        with _explained(path.parent):
            _sync(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every file system syncs folders
        _sync(path.parent)


@contextlib.contextmanager
def temporary_folder(parent, name):
    """Makes a folder in `parent` that is removed on leaving, whatever happens.

    Raises:
        ModelError: "cache_unwritable", a full disk or a folder that cannot be written to.
    """
    parent = pathlib.Path(parent)
    with _explained(parent):
        parent.mkdir(parents=True, exist_ok=True)
        sweep(parent)
        temporary = _temporary(parent / name)
        temporary.mkdir(mode=0o700)
    try:
        with _explained(parent, only=FULL):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def scratch():
    """Makes a private folder among the system's temporary ones, for files that nobody else is to see.

    Raises:
        ModelError: "cache_unwritable", a full disk or no folder that can be written to.
    """
    with _explained("the temporary folder", variable="TMPDIR"):
        folder = tempfile.TemporaryDirectory(prefix="tfmusictag-")
    with folder, _explained(folder.name, only=FULL, variable="TMPDIR"):
        yield pathlib.Path(folder.name)


def sweep(parent):
    """Removes what killed processes left in a folder: temporary names older than a day whose process is gone."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(parent):
            if not entry.name.startswith(_PREFIX):
                continue
            pid = entry.name.removeprefix(_PREFIX).partition("-")[0]
            with contextlib.suppress(OSError):
                age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
                if age_s < _STALE_S or not pid.isdecimal() or _alive(int(pid)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


@contextlib.contextmanager
def lock(parent):
    """Lets one thread of one process at a time into `parent`; the others wait.

    It saves doing the same work twice, no more: files stay whole without it. Where there are no locks (Windows, some
    network file systems, a folder that cannot be written to) everybody gets in.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(parent / ".lock", "ab"))
            if fcntl is not None:
                _wait_for(file, parent)
        yield


def _wait_for(file, parent):
    limit = time.monotonic() + _LOCK_WAIT_S
    waited = False
    while time.monotonic() < limit:
        try:
            # Belongs to the open file, so it also holds between threads, and ends with the process however that ends.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not waited:
                _log.info("waiting for another process that works in %s", parent)
            waited = True
            time.sleep(_POLL_S)
    _log.warning("another process has worked in %s for %d minutes; going on without it", parent, _LOCK_WAIT_S // 60)


def _temporary(path):
    return path.with_name(f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def _alive(pid):
    if os.name != "posix":
        return False  # there, os.kill(pid, 0) is no question; the age alone decides
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _sync(path):
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(parent, only=None, variable="TFMUSICTAG_CACHE"):
    try:
        yield
    except OSError as error:
        if only is not None and error.errno not in only:
            raise
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ModelError(
            "cache_unwritable", f"cannot write to {parent}: {reason}. {variable} can name another folder."
        ) from error
