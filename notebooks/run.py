"""Runs the notebooks from top to bottom, two at a time, each in an empty folder; stored files stay as they are.

python notebooks/run.py [the beginnings of some names, such as 02 03]

The exit status is 1 when a notebook fails or takes more than three minutes. Needs the extra `notebooks`.
"""

import asyncio
import os
import pathlib
import sys
import tempfile
import time

try:
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError
    from traitlets.config import Config
except ImportError as error:
    sys.exit(f"{error.name} is not installed; `pip install tfmusictag[notebooks]` brings it.")

HERE = pathlib.Path(__file__).parent
LIMIT_S = 180
AT_ONCE = 2


async def run(path, turn):
    """Runs one notebook, prints how long it took, and tells whether it went well."""
    async with turn:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as sockets:
            client = NotebookClient(
                nbformat.read(path, as_version=4),
                # By sockets that are files: no ports are opened.
                config=Config(KernelManager={"transport": "ipc", "ip": os.path.join(sockets, "kernel")}),
                resources={"metadata": {"path": folder}},
            )
            try:
                await asyncio.wait_for(client.async_execute(), LIMIT_S)
                wrong = None
            except (asyncio.TimeoutError, CellExecutionError, DeadKernelError) as error:
                wrong = str(error)
        seconds = time.perf_counter() - start
        if seconds >= LIMIT_S:  # nbclient may call that a kernel that died
            wrong = f"took more than {LIMIT_S} s"
        print(f"{path.name}: {seconds:.0f} s{'' if wrong is None else f', failed: {wrong}'}", flush=True)
        return wrong is None


async def run_all(paths):
    turn = asyncio.Semaphore(AT_ONCE)
    return all(await asyncio.gather(*(run(path, turn) for path in paths)))


def main(names):
    paths = sorted(HERE.glob("*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in paths):
            sys.exit(f"There is no notebook {name!r} among {[path.name for path in paths]}.")
    if names:
        paths = [path for path in paths if path.name.startswith(tuple(names))]
    # Weights stay where the tests keep theirs.
    cache = os.environ.get("TFMUSICTAG_TEST_CACHE") or HERE.parent / ".cache"
    os.environ.setdefault("TFMUSICTAG_CACHE", os.fspath(cache))
    return 0 if asyncio.run(run_all(paths)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
