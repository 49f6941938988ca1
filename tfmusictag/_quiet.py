"""Keeps notes that C libraries print to standard error (mpg123 inside libsndfile, LiteRT) from the user.

Nothing is redirected at the level of file descriptors: a progress bar that another thread draws through `sys.stderr`
goes on. What is exchanged is the C library's own variable `stderr`, which such libraries print to. Where that variable
is a constant (musl) or out of reach (Windows), nothing happens and the notes stay visible.
"""

import contextlib
import ctypes
import os
import sys
import threading


class _StderrVariable:
    """The C variable `stderr` and a stream on the null device; `users` counts those who want silence."""

    def __init__(self):
        self.lock = threading.Lock()
        self.users = 0
        self.ready = False
        self.variable = None
        self.null_stream = None
        self.kept = None

    def prepare(self):
        """Finds the variable, once; `variable` stays None where it cannot be exchanged safely."""
        self.ready = True
        name = _variable_name()
        if name is None:
            return
        with contextlib.suppress(OSError, ValueError, AttributeError):
            libc = ctypes.CDLL(None)
            libc.fopen.restype = ctypes.c_void_p
            libc.fopen.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
            # Opened once and never closed: a thread may still be printing to it when the last user leaves.
            null_stream = libc.fopen(os.fsencode(os.devnull), b"we")
            variable = ctypes.c_void_p.in_dll(libc, name)
            if null_stream and variable.value:
                self.null_stream, self.variable = null_stream, variable

    def enter(self):
        with self.lock:
            if not self.ready:
                self.prepare()
            self.users += 1
            if self.users == 1 and self.variable is not None:
                self.kept = self.variable.value
                self.variable.value = self.null_stream

    def leave(self):
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.restore()

    def restore(self):
        # Whoever has put another stream there in the meantime keeps it.
        if self.kept is not None and self.variable.value == self.null_stream:
            self.variable.value = self.kept
        self.kept = None


def _variable_name():
    if sys.platform == "darwin":
        return "__stderrp"
    try:
        # musl does not know this name; its `stderr` lies in read-only memory, where writing would kill the process.
        glibc = os.confstr("CS_GNU_LIBC_VERSION")
    except (AttributeError, ValueError, OSError):
        return None
    return "stderr" if glibc else None


_stderr = _StderrVariable()


def _after_fork():
    """Gives a forked child its own count: the threads that had asked for silence do not exist there."""
    global _stderr
    before, _stderr = _stderr, _StderrVariable()
    before.lock = threading.Lock()  # another thread may have held the old one
    before.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def native_messages_silenced():
    """Drops what C code prints through its `stderr` meanwhile, in all threads; Python's `sys.stderr` is not touched.

    May be nested and used by many threads at once: the first that enters makes the exchange, the last that leaves
    undoes it. Costs a few microseconds. Messages of assertions that fail in C are dropped as well.
    """
    silenced = _stderr
    silenced.enter()
    try:
        yield
    finally:
        silenced.leave()
