import ctypes
import os
import subprocess
import sys
import threading

import pytest

from tfmusictag import _quiet
from tfmusictag._quiet import native_messages_silenced

pytestmark = pytest.mark.skipif(_quiet._variable_name() is None, reason="the C library's `stderr` cannot be exchanged")


@pytest.fixture
def c_says():
    """Prints a line as C libraries do: through the variable `stderr`."""
    libc = ctypes.CDLL(None)
    libc.fputs.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    libc.fflush.argtypes = [ctypes.c_void_p]
    variable = ctypes.c_void_p.in_dll(libc, _quiet._variable_name())

    def say(text):
        libc.fputs(text.encode() + b"\n", variable)
        libc.fflush(variable)

    return say


def test_what_c_prints_is_dropped_and_only_meanwhile(c_says, capfd):
    c_says("before")
    with native_messages_silenced():
        c_says("meanwhile")
    c_says("after")
    assert capfd.readouterr().err == "before\nafter\n"


def test_what_python_prints_meanwhile_is_kept(c_says, capfd):
    with native_messages_silenced():
        os.write(2, b"descriptor\n")
        print("sys.stderr", file=sys.stderr, flush=True)
        c_says("dropped")
    assert capfd.readouterr().err == "descriptor\nsys.stderr\n"


def test_it_nests(c_says, capfd):
    with native_messages_silenced():
        with native_messages_silenced():
            c_says("inner")
        c_says("outer")
    c_says("after")
    assert capfd.readouterr().err == "after\n"


def test_an_exception_passes_and_the_stream_is_back(c_says, capfd):
    with pytest.raises(KeyError), native_messages_silenced():
        raise KeyError
    c_says("after")
    assert capfd.readouterr().err == "after\n"


def test_the_last_of_many_threads_gives_the_stream_back(c_says, capfd):
    inside, leave = threading.Barrier(5), threading.Event()

    def work():
        with native_messages_silenced():
            inside.wait(10)
            leave.wait(10)
        for _ in range(2_000):
            with native_messages_silenced():
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    with native_messages_silenced():
        inside.wait(10)
    c_says("the others are still inside")
    leave.set()
    for thread in threads:
        thread.join()
    c_says("after")
    assert capfd.readouterr().err == "after\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_with_its_own_count():
    # In a process of its own, since forking one with threads warns, and pytest's has some.
    code = """
import ctypes, os, threading
from tfmusictag import _quiet
libc = ctypes.CDLL(None)
inside, leave = threading.Event(), threading.Event()
def work():
    with _quiet.native_messages_silenced():
        inside.set()
        leave.wait(10)
thread = threading.Thread(target=work)
thread.start()
inside.wait(10)
child = os.fork()
libc.perror(b"child" if child == 0 else b"parent")
if child == 0:
    with _quiet.native_messages_silenced():
        libc.perror(b"silenced child")
    libc.perror(b"child again")
    libc.fflush(None)
    os._exit(0)
os.waitpid(child, 0)
leave.set()
thread.join()
libc.perror(b"parent again")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    said = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert said == ["child", "child again", "parent again"]


DAMAGED_MP3 = """
import hostile, signals
from tfmusictag import audio
content = hostile.encode(signals.music(3 * 22_050, 22_050, seed=1), 22_050, "MP3")
content = hostile.with_hole(content, at=len(content) // 2, size=5_000)
"""


@pytest.mark.parametrize("silenced", [True, False])
def test_the_notes_of_the_mp3_decoder(silenced):
    """They exist, or the test would prove nothing; and the user sees none of them."""
    code = DAMAGED_MP3
    if not silenced:
        code += "import contextlib\naudio.native_messages_silenced = contextlib.nullcontext\n"
    code += "print(len(audio.load(content, 16_000)))"
    done = run_beside(code)
    assert int(done.stdout) > 16_000
    assert (done.stderr == "") == silenced
    assert silenced or "resync" in done.stderr


ONE_LOGISTIC = """
import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

def tensor(name):
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name, [1, 4], schema.TensorType.FLOAT32, 0
    return made

kind, step, graph, model = schema.OperatorCodeT(), schema.OperatorT(), schema.SubGraphT(), schema.ModelT()
kind.builtinCode = kind.deprecatedBuiltinCode = schema.BuiltinOperator.LOGISTIC
kind.version = 1
step.opcodeIndex, step.inputs, step.outputs = 0, [0], [1]
graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor("a"), tensor("b")], [0], [1], [step]
model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [kind], [graph]
builder = flatbuffers.Builder(256)
builder.Finish(model.Pack(builder), b"TFL3")

import contextlib
from tfmusictag._quiet import native_messages_silenced
"""


@pytest.mark.parametrize("silenced", [True, False])
def test_the_note_of_the_litert_interpreter(silenced):
    pytest.importorskip("ai_edge_litert.schema_py_generated", reason="this LiteRT cannot write models")
    context = "native_messages_silenced()" if silenced else "contextlib.nullcontext()"
    made = "Interpreter(model_content=bytes(builder.Output())).allocate_tensors()"
    done = run_beside(f"{ONE_LOGISTIC}with {context}:\n    {made}")
    assert ("XNNPACK" in done.stderr) == (not silenced)
    assert not silenced or done.stderr == ""


def run_beside(code):
    """Runs `code` in a new process with this folder in its path."""
    paths = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
