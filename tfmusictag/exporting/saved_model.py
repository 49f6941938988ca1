"""SavedModel: the form for servers, with a free number of clips at once."""

import os
import pathlib
import shutil

import numpy as np

from tfmusictag.exporting import _files, _model, parity

# The same kernels compute both, in another order at most.
_BOUNDS = (1e-5, 1e-4, 1e-6)
# For a model that takes any width, to compare on.
_DEFAULT_RATE = 16_000
_DEFAULT_CLIP_S = 4


def export_saved_model(model, path, *, overwrite=False):
    """Writes a SavedModel and returns its path.

    The endpoint `serve` maps `waveform` (batch, samples) float32 to the dictionary `{"tags": (batch, classes)}`. Its
    answers are compared with those of `model` before it gets its name.

    Args:
        model: a Functional Keras model from a waveform (batch, samples) to tags (batch, classes).
        path: the folder to make.
        overwrite: whether a SavedModel there is replaced; a folder with anything else never is.

    Raises:
        FileExistsError: something is there already and must not be replaced.
        ValueError: a model of another form.
        ModelError: `parity_failed`, `not_writable`.
    """
    import tensorflow as tf

    path = pathlib.Path(path)
    if os.path.lexists(path):
        if not overwrite:
            raise FileExistsError(f"{path} exists; overwrite=True replaces it.")
        if not (path / "saved_model.pb").is_file():
            raise FileExistsError(f"{path} is no SavedModel, so it is not replaced.")
    waveform, tags = _model.ends(model)
    model = _model.through(waveform, tags, model.name)
    samples = waveform.shape[-1]
    rate = _model.sample_rate(model) or _DEFAULT_RATE
    clips = parity.clips(samples or max(_DEFAULT_CLIP_S * rate, _model.least_samples(model)), rate)

    with _files.staging(path) as folder:
        made = folder / "saved_model"
        try:
            _model.write_saved_model(model, made, batch=None, samples=samples, output="tags")
            serve = tf.saved_model.load(str(made)).signatures["serve"]
        except tf.errors.OpError as error:
            raise _files.not_writable(path, error) from error
        expected = {name: np.asarray(model(clip, training=False)) for name, clip in clips.items()}
        # All clips at once, and against them one by one: the batch is free, and no clip hears its neighbours.
        together = serve(waveform=tf.constant(np.concatenate(list(clips.values()))))["tags"].numpy()
        received = {name: row[np.newaxis] for name, row in zip(clips, together, strict=True)}
        parity.check(expected, received, bounds=_BOUNDS, scores=parity.are_scores(expected), what="SavedModel")
        if path.exists():
            os.rename(path, folder / "old")
        os.rename(made, path)
        shutil.rmtree(folder / "old", ignore_errors=True)
    return path
