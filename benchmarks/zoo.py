"""Measures networks of the catalogue against the same ones written in PyTorch, and their TFLite files against Keras.

    python benchmarks/zoo.py                  all rows; also writes results/zoo.json and README's table
    python benchmarks/zoo.py --models fcn     some models, printed only

Needs Linux and the extra `torch`. Three processes, one each for Keras, PyTorch and LiteRT, take turns on the same two
cores; figures are medians, after a turn that is not counted. No time counts unless both sides, with the same weights,
give the same scores. The status is 1 if a goal is missed.
"""

import argparse
import datetime
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np
from common import HEAD, faster, in_turns, machine, measured, save

HERE = pathlib.Path(__file__).parent
CORES = 2
TOLERANCE = 1e-3  # of scores: decibels near the floor differ between two Fourier transforms
# Peer's class, bands of its mel spectrogram (None: the waveform; "harmonic": the harmonic one), clips a batch.
MODELS = {
    "fcn": ("FCN", 96, 4),
    "sample_cnn": ("SampleCNN", None, 16),
    "short_chunk_cnn_res": ("ShortChunkCNNRes", 128, 8),
    "harmonic_cnn": ("HarmonicCNN", "harmonic", 8),
    "self_attention": ("CNNSA", 128, 4),
}
# The layer of `frequency_dependent` behind its pool: clips, frames, bands, channels; filters, strides.
LAYER = "FrequencyDependentConv2D"
LAYER_INPUT, LAYER_FILTERS, LAYER_STRIDES = (16, 32, 32, 128), 256, 2
PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "torch", "numpy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=[*MODELS, LAYER], default=[*MODELS, LAYER])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(WORKERS[options.work]())
        return 0
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": machine(len(os.sched_getaffinity(0))),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "agreement": {},
    }
    rows = []
    for name in options.models:
        rows += (measure_layer if name == LAYER else measure)(name, options.repeats, facts)
    table = markdown(rows, facts)
    print(table)
    if options.models == [*MODELS, LAYER]:
        save("zoo", rows, facts, table)
    return 0 if all(row.reached for row in rows) else 1


def measure(name, repeats, facts):
    """Returns the rows of one model."""
    with tempfile.TemporaryDirectory() as folder, Process("torch") as torch, Process("keras") as keras:
        torch.ask("prepare", name, folder)
        keras.ask("prepare", name, folder)
        rows = against_torch(name, MODELS[name][2], repeats, facts, folder, keras, torch)
        keras.ask("export", folder)
        with Process("litert") as litert:
            litert.ask("prepare", name, folder)
            turns = {
                "litert": lambda: litert.ask("time", "one"),
                "predict_on_batch": lambda: keras.ask("time", "one"),
                "predict": lambda: keras.ask("time", "predict"),
            }
            times = in_turns(3 * repeats, turns)
        for way in ("predict_on_batch", "predict"):
            what = f"`{name}`, TFLite float32, against Keras's `{way}`"
            rows.append(faster(what, "1 clip", times["litert"], times[way], least=1.0))
    return rows


def measure_layer(name, repeats, facts):
    """Returns the rows of the layer alone."""
    with tempfile.TemporaryDirectory() as folder, Process("torch") as torch, Process("keras") as keras:
        torch.ask("prepare_layer", folder)
        keras.ask("prepare_layer", folder)
        return against_torch(name, LAYER_INPUT[0], repeats, facts, folder, keras, torch)


def against_torch(name, clips, repeats, facts, folder, keras, torch):
    """Returns the rows of both ways through a network, once both sides were seen to give the same."""
    apart = np.load(f"{folder}/torch.npy") - np.load(f"{folder}/keras.npy")
    facts["agreement"][name] = float(np.abs(apart).max())
    if facts["agreement"][name] > TOLERANCE:
        raise SystemExit(f"{name}: Keras and PyTorch differ by {facts['agreement'][name]:.2g}.")
    rows = []
    for what in ("forward", "training step"):
        print(name, what, file=sys.stderr)
        turns = {
            "keras": lambda what=what: keras.ask("time", what),
            "torch": lambda what=what: torch.ask("time", what),
        }
        times = in_turns(repeats, turns)
        what = f"`{name}`, {what}, against PyTorch"
        rows.append(faster(what, f"{clips} clips", times["keras"], times["torch"], least=1.0))
    return rows


def markdown(rows, facts):
    agreement = ", ".join(f"{name} {value:.1g}" for name, value in facts["agreement"].items())
    return "\n".join(
        [
            HEAD,
            *(row.markdown() for row in rows),
            "",
            measured(facts),
            f"- Largest difference between Keras and PyTorch with the same weights: {agreement}.",
        ]
    )


class Process:
    """One of the sides, as a process that does what it is asked line by line."""

    def __init__(self, side):
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()

    def ask(self, *words):
        """Returns the seconds that it took."""
        print("\t".join(words), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{words} failed")
        return float(answer)


def work(side):
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        verb, *words = line.rstrip("\n").split("\t")
        start = time.perf_counter()
        getattr(side, verb)(*words)
        print(time.perf_counter() - start, file=answers, flush=True)


def waveforms(name, samples):
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((MODELS[name][2], samples))).astype("float32")


def layer_case():
    """Returns what goes into the layer (clips, frames, bands, channels), and what training wants of it."""
    rng = np.random.default_rng(0)
    clips, *sizes, _ = LAYER_INPUT
    wanted = (clips, *(size // LAYER_STRIDES for size in sizes), LAYER_FILTERS)
    return [rng.standard_normal(shape).astype("float32") for shape in (LAYER_INPUT, wanted)]


def targets(count):
    return (np.random.default_rng(1).uniform(size=(count, 50)) < 0.1).astype("float32")


class Torch:
    """The peer: its network behind a front-end of torch.stft, Adam, binary cross-entropy."""

    def prepare(self, name, folder):
        torch, torch_peers = self.begin()
        self.loss = torch.nn.functional.binary_cross_entropy_with_logits
        peer, bands, _ = MODELS[name]
        self.body = torch_peers.randomised(getattr(torch_peers, peer)(), seed=0)
        self.frontend = {None: self.raw, "harmonic": self.harmonic}.get(bands, self.log_mel)
        if isinstance(bands, int):
            import librosa

            bank = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=bands, htk=True, norm=None)
            self.bank = torch.tensor(bank)  # (bands, 257)
        torch.save(self.body.state_dict(), f"{folder}/weights.pth")
        self.x = torch.tensor(waveforms(name, samples(name)))
        self.y = torch.tensor(targets(len(self.x)))
        self.optimiser = torch.optim.Adam(self.body.parameters(), lr=1e-4)
        with torch.no_grad():
            np.save(f"{folder}/torch.npy", torch.sigmoid(self.network(self.x)).numpy())

    def begin(self):
        import torch

        sys.path.insert(0, str(HERE.parent / "tests"))
        import torch_peers

        torch.set_num_threads(CORES)
        self.torch = torch
        return torch, torch_peers

    def prepare_layer(self, folder):
        torch, torch_peers = self.begin()
        bands, channels = LAYER_INPUT[2:]
        peer = torch_peers.GroupedBandwiseConv(channels, LAYER_FILTERS, bands // LAYER_STRIDES, LAYER_STRIDES)
        self.body, self.frontend = torch_peers.randomised(peer, seed=0), lambda x: x
        self.loss = torch.nn.functional.mse_loss
        # Each side has its own layout from the beginning: (clips, channels, bands, frames) here.
        self.x, self.y = (torch.tensor(value).permute(0, 3, 2, 1).contiguous() for value in layer_case())
        self.optimiser = torch.optim.Adam(self.body.parameters(), lr=1e-4)
        np.savez(f"{folder}/layer.npz", **{name: value.numpy() for name, value in self.body.state_dict().items()})
        with torch.no_grad():
            np.save(f"{folder}/torch.npy", self.network(self.x).permute(0, 3, 2, 1).numpy())

    def raw(self, x):
        return x[:, None]

    def power(self, x):
        window = self.torch.hann_window(512)
        return self.torch.stft(x, 512, 256, window=window, center=True, return_complex=True).abs() ** 2

    def decibels(self, x):
        return 10 * self.torch.log10(self.torch.clamp(x, min=1e-10))

    def log_mel(self, x):
        return self.decibels(self.bank @ self.power(x))[:, None]

    def harmonic(self, x):
        torch = self.torch
        notes = 24 + torch.arange(128) / 2
        centres = (torch.arange(1, 7)[:, None] * 440 * 2 ** ((notes - 69) / 12)).reshape(-1)
        widths = (0.1079 * centres + 24.7) / self.body.hstft.bw_Q
        bins = torch.linspace(0, 8000, 257)[:, None]
        bank = torch.relu(1 - 2 * (bins - centres).abs() / widths)  # (257, 768)
        return self.decibels((bank.T @ self.power(x)).reshape(len(x), 6, 128, -1))

    def network(self, x):
        return self.body(self.frontend(x))

    def time(self, what):
        if what == "forward":
            self.body.eval()
            with self.torch.no_grad():
                self.network(self.x).numpy()
            return
        self.body.train()
        self.optimiser.zero_grad()
        loss = self.loss(self.network(self.x), self.y)
        loss.backward()
        self.optimiser.step()
        loss.item()


def samples(name):
    import tfmusictag

    return tfmusictag.card(name).input_samples


class Keras:
    """The catalogue's model as users run it: predict_on_batch, train_on_batch."""

    def prepare(self, name, folder):
        import tensorflow as tf

        import tfmusictag

        tf.config.threading.set_intra_op_parallelism_threads(CORES)
        self.model = tfmusictag.create(name, weights=f"{folder}/weights.pth")
        self.model.compile("adam", "binary_crossentropy", jit_compile=False)
        self.x = waveforms(name, samples(name))
        self.y = targets(len(self.x))
        np.save(f"{folder}/keras.npy", self.model.predict_on_batch(self.x))

    def prepare_layer(self, folder):
        import keras
        import tensorflow as tf

        from tfmusictag import layers

        tf.config.threading.set_intra_op_parallelism_threads(CORES)
        inputs = keras.Input(LAYER_INPUT[1:])
        layer = layers.FrequencyDependentConv2D(LAYER_FILTERS, LAYER_STRIDES)
        self.model = keras.Model(inputs, layer(inputs))
        weights = np.load(f"{folder}/layer.npz")
        rows, channels = LAYER_INPUT[2] // LAYER_STRIDES, LAYER_INPUT[3]
        kernel = weights["weight"].reshape(rows, LAYER_FILTERS, channels, 3, 3)  # over (bands, frames)
        layer.set_weights([kernel.transpose(0, 4, 3, 2, 1), weights["bias"].reshape(rows, LAYER_FILTERS)])
        self.model.compile("adam", "mean_squared_error", jit_compile=False)
        self.x, self.y = layer_case()
        np.save(f"{folder}/keras.npy", self.model.predict_on_batch(self.x))

    def export(self, folder):
        import tfmusictag

        tfmusictag.export_tflite(self.model, f"{folder}/model.tflite", labels=[f"tag {index}" for index in range(50)])

    def time(self, what):
        if what == "training step":
            self.model.train_on_batch(self.x, self.y)
        elif what == "predict":
            self.model.predict(self.x[:1], verbose=0)
        else:
            self.model.predict_on_batch(self.x if what == "forward" else self.x[:1])


class LiteRT:
    """The exported file on as many threads."""

    def prepare(self, name, folder):
        from ai_edge_litert.interpreter import Interpreter

        self.runner = Interpreter(f"{folder}/model.tflite", num_threads=CORES).get_signature_runner("serve")
        self.x = waveforms(name, samples(name))[:1]

    def time(self, what):
        self.runner(waveform=self.x)


WORKERS = {"torch": Torch, "keras": Keras, "litert": LiteRT}

if __name__ == "__main__":
    sys.exit(main())
