"""Converts to TFLite in forks of one process that has TensorFlow loaded already, which takes seconds in each of many.

A fork loads its SavedModel once, and not twice for each of four or five conversions, which takes as long as converting.
What is converted is the same; tests/test_exporting.py has processes of their own, as users have.
"""

import atexit
import os
import subprocess
import sys
import types

_SERVER = """
import os, sys, traceback
import tensorflow
tensorflow.lite.TFLiteConverter  # loads what it is in
from tensorflow.lite.python import lite
from tfmusictag.exporting import _convert
load, loaded = lite._load, {}
def load_once(folder, tags):
    if folder not in loaded:
        loaded[folder] = load(folder, tags)
    return loaded[folder]
lite._load = load_once
for line in sys.stdin:
    folder = line.rstrip("\\n")
    child = os.fork()
    if not child:
        errors = os.open(os.path.join(folder, "stderr"), os.O_CREAT | os.O_WRONLY)
        os.dup2(errors, 2)
        os.dup2(errors, 1)
        try:
            _convert.main(folder)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
_server = None


def run(command, *, env, **_):
    """Stands for `subprocess.run` where `tfmusictag.exporting.tflite` calls it."""
    global _server
    if _server is None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        _server = subprocess.Popen([sys.executable, "-c", _SERVER], env=env, text=True, **pipes)
        atexit.register(_server.communicate)
    folder = os.path.abspath(command[-1])  # the server stays where the first test was
    print(folder, file=_server.stdin, flush=True)
    status = int(_server.stdout.readline())
    with open(f"{folder}/stderr", "rb") as file:
        return subprocess.CompletedProcess(command, status, stderr=file.read())


SUBPROCESS = types.SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL, PIPE=subprocess.PIPE)
