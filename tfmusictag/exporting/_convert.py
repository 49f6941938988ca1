"""The child process of `export_tflite`: a SavedModel in, TFLite bytes and their answers out.

Run as `python -m tfmusictag.exporting._convert <folder>`, where the parent has left `job.json`, the SavedModel, the
clips and, for int8, the representative waveforms. It leaves `result.json`, the files and what they answer. Conversion
has a process of its own because TensorFlow 2.16 may abort in it, which no `except` survives.
"""

import functools
import json
import pathlib
import re
import sys

import numpy as np

from tfmusictag import errors
from tfmusictag.exporting import metadata

JOB = "job.json"
RESULT = "result.json"
SAVED_MODEL = "saved_model"
REPRESENTATIVE = "representative.npy"
CLIPS = "clips.npz"
ENDPOINT = "serve"


def model(variant):
    """Returns the name of the file of a variant."""
    return f"model-{variant}.tflite"


def answers(variant):
    """Returns the name of the file with what a variant answers to the clips."""
    return f"answers-{variant}.npz"


def main(folder):
    folder = pathlib.Path(folder)
    try:
        job = json.loads((folder / JOB).read_text("utf-8"))
        converter = _Converter(folder, job["frontend"])
        result = {"operations": {facts["variant"]: _work(folder, converter, facts) for facts in job["files"]}}
    except errors.ModelError as error:
        result = {"code": error.code, "message": str(error)}
    except OSError as error:
        result = {"code": "not_writable", "message": f"cannot write to {folder.parent}: {error}."}
    (folder / RESULT).write_text(json.dumps(result), "utf-8")


def _work(folder, converter, facts):
    """Makes one file, runs it and returns its operations."""
    from tfmusictag.exporting import _flatbuffer

    found = metadata.TFLiteMetadata(**{**facts, "labels": tuple(facts["labels"])})
    tree = converter.variant(found.variant)
    operations = _flatbuffer.operations(tree)
    missing = [name for name in operations if name.startswith("custom:")]
    if missing:
        raise _not_builtin(missing)
    if found.variant == "int8":
        names = _flatbuffer.quantised(tree, _flatbuffer.frontend(tree, converter.frontend))
        if names:
            raise errors.ModelError(
                "conversion_failed",
                f"the converter quantised parts of the front-end, which has to stay float32: {', '.join(names)}.",
            )
    _flatbuffer.rename(tree, found.output)
    _flatbuffer.add_metadata(tree, metadata.build(found))
    (folder / model(found.variant)).write_bytes(metadata.attach(_flatbuffer.pack(tree), found))
    _run(folder, found)
    return operations


class _Converter:
    """Converts the SavedModel of a folder into the object trees of the variants.

    `frontend` lists the names of the layers whose operations stay in floating point.
    """

    def __init__(self, folder, frontend):
        self._folder = folder
        self.frontend = frontend

    def variant(self, variant):
        """Returns the object tree of a variant."""
        return getattr(self, f"_{variant}")()

    def _float32(self):
        from tfmusictag.exporting import _flatbuffer

        return _flatbuffer.load(self._plain)

    def _float16(self):
        import tensorflow as tf

        from tfmusictag.exporting import _flatbuffer

        tree = _flatbuffer.load(self._convert(tf.lite.Optimize.DEFAULT, types=[tf.float16]))
        _flatbuffer.widen(tree, _flatbuffer.load(self._plain), self.frontend)
        return tree

    def _dynamic(self):
        from tfmusictag.exporting import _flatbuffer

        tree = _flatbuffer.load(self._eight_bits)
        _flatbuffer.restore_frontend(tree, _flatbuffer.load(self._separate), self.frontend)
        return tree

    def _int8(self):
        from tfmusictag.exporting import _flatbuffer

        tree = _quantise(self._separate, np.load(self._folder / REPRESENTATIVE, mmap_mode="r"), self.frontend)
        if _flatbuffer.recurrences(tree, self.frontend):
            _flatbuffer.narrow_recurrences(tree, _flatbuffer.load(self._eight_bits), self.frontend)
        return tree

    @functools.cached_property
    def _plain(self):
        return self._convert()

    @functools.cached_property
    def _separate(self):
        return self._convert(separate=True)

    @functools.cached_property
    def _eight_bits(self):
        import tensorflow as tf

        return self._convert(tf.lite.Optimize.DEFAULT, separate=True)

    def _convert(self, *optimisations, types=(), separate=False):
        """Returns the bytes of a file; `separate` keeps normalisations apart from the matrices behind them."""
        import tensorflow as tf

        saved = str(self._folder / SAVED_MODEL)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=[ENDPOINT])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.target_spec.supported_types = list(types)
        converter.optimizations = list(optimisations)
        # A normalisation multiplied into the matrix behind it gives that matrix columns of very different size, which
        # eight bits cannot hold: on musicnn's weights a score was off by 0.35 with it and by 0.07 without. Private,
        # but the same from TensorFlow 2.16 to 2.20; were it gone, files would be worse and a test would tell.
        converter._experimental_disable_fuse_mul_and_fc = separate
        try:
            return converter.convert()
        except Exception as error:
            # The converter's own class for it is not public; its text lists the operations.
            names = re.findall(r"(?:TF Select|Flex|Custom) ops: ([^\n]+)", str(error))
            if names:
                raise _not_builtin(names) from error
            raise


def _quantise(plain, waveforms, frontend):
    """Quantises the convolutions and matrix products of a float32 file by the ranges that `waveforms` show.

    The two steps that the converter takes itself, taken one by one: it would multiply normalisations into matrices
    again, and it has no way to leave operations out.
    """
    from tensorflow.lite.python import convert
    from tensorflow.lite.python.optimize import calibrator

    from tfmusictag.exporting import _flatbuffer

    calibrated = calibrator.Calibrator(plain).calibrate(
        lambda: ({"waveform": waveform[np.newaxis]} for waveform in waveforms)
    )
    tree = _flatbuffer.load(calibrated)
    _flatbuffer.keep_ranges(tree, frontend)
    kinds, names = _flatbuffer.in_float(tree, frontend)
    quantised = convert.mlir_quantize(_flatbuffer.pack(tree), denylisted_ops=kinds, denylisted_nodes=names)
    return _flatbuffer.load(quantised)


def _not_builtin(names):
    return errors.ModelError(
        "not_builtin",
        f"the model needs operations that phones lack: {', '.join(names)}. A TFLite file may have built-in ones only.",
    )


def _run(folder, found):
    """Runs a file on the clips as a phone would and leaves the answers."""
    from ai_edge_litert.interpreter import Interpreter

    clips = np.load(folder / CLIPS)
    try:
        interpreter = Interpreter(str(folder / model(found.variant)), num_threads=1)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner(ENDPOINT)
        received = {name: runner(waveform=clips[name])[found.output] for name in clips}
    except (RuntimeError, ValueError) as error:
        raise errors.ModelError("not_runnable", f"LiteRT cannot run the converted file: {error}") from error
    np.savez(folder / answers(found.variant), **received)


if __name__ == "__main__":
    main(sys.argv[1])
