"""The child process of `export_tflite`: a SavedModel in, TFLite bytes and their answers out.

Run as `python -m tfmusictag.exporting._convert <folder>`, where the parent has left `job.json`, the SavedModel, the
clips and, for int8, the representative waveforms. It leaves `result.json`, the file and what it answers. Conversion
has a process of its own because TensorFlow 2.16 may abort in it, which no `except` survives.
"""

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
MODEL = "model.tflite"
REPRESENTATIVE = "representative.npy"
CLIPS = "clips.npz"
ANSWERS = "answers.npz"
ENDPOINT = "serve"


def main(folder):
    folder = pathlib.Path(folder)
    try:
        result = _work(folder, json.loads((folder / JOB).read_text("utf-8")))
    except errors.ModelError as error:
        result = {"code": error.code, "message": str(error)}
    except OSError as error:
        result = {"code": "not_writable", "message": f"cannot write to {folder.parent}: {error}."}
    (folder / RESULT).write_text(json.dumps(result), "utf-8")


def _work(folder, job):
    from tfmusictag.exporting import _flatbuffer

    facts = {**job["metadata"], "labels": tuple(job["metadata"]["labels"])}
    found = metadata.TFLiteMetadata(**facts)
    model = _convert(folder, found.variant)
    operations = _flatbuffer.operations(model)
    missing = [name for name in operations if name.startswith("custom:")]
    if missing:
        raise _not_builtin(missing)
    if found.variant == "int8" and not _flatbuffer.is_float(model, _flatbuffer.frontend(model)):
        raise errors.ModelError(
            "conversion_failed", "the converter quantised the front-end, which has to stay float32."
        )
    _flatbuffer.rename(model, found.output)
    _flatbuffer.add_metadata(model, metadata.build(found))
    content = metadata.attach(_flatbuffer.pack(model), found)
    (folder / MODEL).write_bytes(content)
    _run(folder, found.output)
    return {"operations": operations}


def _convert(folder, variant):
    """Converts the SavedModel and returns the object tree."""
    import tensorflow as tf

    from tfmusictag.exporting import _flatbuffer

    def convert(*optimisations, types=()):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / SAVED_MODEL), signature_keys=[ENDPOINT])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.target_spec.supported_types = list(types)
        converter.optimizations = list(optimisations)
        # A normalisation multiplied into the matrix behind it gives that matrix columns of very different size, which
        # eight bits cannot hold: on musicnn's weights a score was off by 0.35 with it and by 0.07 without. Private,
        # but the same from TensorFlow 2.16 to 2.20; were it gone, files would be worse and a test would tell.
        converter._experimental_disable_fuse_mul_and_fc = variant in ("dynamic", "int8")
        try:
            return converter.convert()
        except Exception as error:
            # The converter's own class for it is not public; its text lists the operations.
            names = re.findall(r"(?:TF Select|Flex|Custom) ops: ([^\n]+)", str(error))
            if names:
                raise _not_builtin(names) from error
            raise

    if variant == "float32":
        return _flatbuffer.load(convert())
    if variant == "float16":
        return _flatbuffer.load(convert(tf.lite.Optimize.DEFAULT, types=[tf.float16]))
    plain = convert()
    if variant == "dynamic":
        model = _flatbuffer.load(convert(tf.lite.Optimize.DEFAULT))
        _flatbuffer.restore_frontend(model, _flatbuffer.load(plain))
        return model
    return _quantise(plain, np.load(folder / REPRESENTATIVE, mmap_mode="r"))


def _quantise(plain, waveforms):
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
    kept = _flatbuffer.names_in_float(_flatbuffer.load(calibrated))
    return _flatbuffer.load(convert.mlir_quantize(calibrated, denylisted_nodes=kept))


def _not_builtin(names):
    return errors.ModelError(
        "not_builtin",
        f"the model needs operations that phones lack: {', '.join(names)}. A TFLite file may have built-in ones only.",
    )


def _run(folder, output):
    """Runs the file on the clips as a phone would and leaves the answers."""
    from ai_edge_litert.interpreter import Interpreter

    clips = np.load(folder / CLIPS)
    try:
        interpreter = Interpreter(str(folder / MODEL), num_threads=1)
        interpreter.allocate_tensors()
        runner = interpreter.get_signature_runner(ENDPOINT)
        answers = {name: runner(waveform=clips[name])[output] for name in clips}
    except (RuntimeError, ValueError) as error:
        raise errors.ModelError("not_runnable", f"LiteRT cannot run the converted file: {error}") from error
    np.savez(folder / ANSWERS, **answers)


if __name__ == "__main__":
    main(sys.argv[1])
