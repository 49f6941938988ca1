"""A process of kymatio's, for `scattering.py`: one JSON line asks for a transform, one says how long it took.

    {"kind": "joint" or "time", "backend": "numpy", "torch" or "tensorflow", "arguments": {...}, "clips": path,
     "answer": path}

Runs under a Python that has kymatio's main branch (commit 11552ed5) and SciPy below 1.15.
"""

import json
import sys
import time

import numpy as np


def transform(request, samples):
    """Returns a function from clips (batch, samples) to coefficients, with its filters made."""
    kind = {"joint": "TimeFrequencyScattering", "time": "Scattering1D"}[request["kind"]]
    module = __import__(f"kymatio.{request['backend']}", fromlist=[kind])
    arguments = {**request["arguments"], "shape": samples}
    arguments["Q"] = tuple(arguments["Q"])
    found = getattr(module, kind)(**arguments)
    if request["backend"] != "torch":
        return lambda clips: np.asarray(found(clips))
    import torch

    return lambda clips: found(torch.from_numpy(clips)).numpy()


def main():
    made = {}
    for line in sys.stdin:
        request = json.loads(line)
        clips = np.load(request["clips"])
        key = json.dumps({**request, "answer": None})
        if key not in made:
            made[key] = transform(request, clips.shape[1])
        start = time.perf_counter()
        answer = made[key](clips)
        seconds = time.perf_counter() - start
        np.save(request["answer"], answer)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
