"""The original pipeline of musicnn 0.1.0: librosa's log-mel spectrogram, then the TensorFlow 1 graph of the wheel.

    python original.py CHECKPOINT CLIP...       tags the clips and ends
    python original.py CHECKPOINT               tags each clip that is named on standard input, until that ends

CHECKPOINT is a folder of the wheel, such as MTT_musicnn. For each clip a line of JSON is printed: the seconds that it
took with the model loaded, and the scores of each window. The wheel's own code does not run on today's TensorFlow, the
graph in its `.meta` file does: it is cut down to inference, and the trained values are put in as constants, which is
the fastest way to run it. The steps are those of the wheel's extractor.py, with its batch of one window.
"""

import json
import os
import sys
import time

import librosa
import numpy as np
import tensorflow as tf

_SAMPLE_RATE = 16_000
_FRAMES = 187
_SCORES = "model/Sigmoid"


def load(checkpoint):
    """Returns a function from a log-mel spectrogram (frames, 96) to scores (windows, tags)."""
    meta = tf.compat.v1.MetaGraphDef()
    with open(os.path.join(checkpoint, ".meta"), "rb") as file:
        meta.ParseFromString(file.read())
    inference = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [_SCORES])
    reader = tf.compat.v1.train.NewCheckpointReader(os.path.join(checkpoint, ""))
    variables = [node.name for node in inference.node if node.op.startswith("Variable")]
    with tf.Graph().as_default() as graph:
        values = {f"{name}:0": tf.constant(reader.get_tensor(name)) for name in variables}
        tf.import_graph_def(inference, input_map=values, name="")
    inputs = [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]
    patches, training = (next(x for x in inputs if x.dtype == dtype) for dtype in (tf.float32, tf.bool))
    session = tf.compat.v1.Session(graph=graph)

    def score(log_mel):
        starts = range(0, len(log_mel) - _FRAMES + 1, _FRAMES)  # what does not fill a window is dropped
        feeds = ({patches: log_mel[np.newaxis, start : start + _FRAMES], training: False} for start in starts)
        return np.concatenate([session.run(f"{_SCORES}:0", feed) for feed in feeds])

    return score


def log_mel(clip):
    """Returns the log-mel spectrogram of a file, float32 (frames, 96)."""
    waveform, _ = librosa.load(clip, sr=_SAMPLE_RATE)
    # The librosa of then reflected the edges; today's default pads them with zeros.
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=_SAMPLE_RATE, hop_length=256, n_fft=512, n_mels=96, pad_mode="reflect"
    )
    return np.log10(10_000 * mel.T.astype("float16").astype("float32") + 1)


def main(checkpoint, *clips):
    score = load(checkpoint)
    for clip in clips or map(str.strip, iter(sys.stdin.readline, "")):
        start = time.perf_counter()
        scores = score(log_mel(clip))
        print(json.dumps({"seconds": time.perf_counter() - start, "scores": scores.tolist()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
