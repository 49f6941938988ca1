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

    def converter(*, optimise=True):
        made = tf.lite.TFLiteConverter.from_saved_model(str(folder / SAVED_MODEL), signature_keys=[ENDPOINT])
        made.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if optimise:
            made.optimizations = [tf.lite.Optimize.DEFAULT]
        return made

    def run(made):
        try:
            return made.convert()
        except Exception as error:
            # The converter's own class for it is not public; its text lists the operations.
            names = re.findall(r"(?:TF Select|Flex|Custom) ops: ([^\n]+)", str(error))
            if names:
                raise _not_builtin(names) from error
            raise

    if variant == "float32":
        return _flatbuffer.load(run(converter(optimise=False)))
    if variant == "float16":
        made = converter()
        made.target_spec.supported_types = [tf.float16]
        return _flatbuffer.load(run(made))
    # Also for int8: this conversion says in words if an operation is missing, calibration does not.
    plain = _flatbuffer.load(run(converter(optimise=False)))
    if variant == "dynamic":
        model = _flatbuffer.load(run(converter()))
        _flatbuffer.restore_frontend(model, plain)
        return model

    waveforms = np.load(folder / REPRESENTATIVE, mmap_mode="r")
    made = converter()
    made.representative_dataset = lambda: ({"waveform": waveform[np.newaxis]} for waveform in waveforms)
    # The debugger is TensorFlow's only public way to keep single operations in floating point.
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=made, debug_dataset=lambda: ([waveform[np.newaxis]] for waveform in waveforms)
    )
    calibrated = _flatbuffer.load(debugger.calibrated_model)
    debugger.options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_nodes=_flatbuffer.tensor_names(calibrated, _flatbuffer.frontend(calibrated))
    )
    return _flatbuffer.load(debugger.get_nondebug_quantized_model())


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
