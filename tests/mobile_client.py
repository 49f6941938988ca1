"""The real mobile client, MediaPipe's AudioClassifier, where it can be loaded."""

import numpy as np

try:
    # It loads libGL, libEGL and libGLES of the system although it draws nothing.
    from mediapipe.tasks.python import BaseOptions, audio
    from mediapipe.tasks.python.components import containers

    missing = None
except (ImportError, OSError) as error:
    missing = f"MediaPipe cannot be loaded here: {error}"

# What it may differ by from LiteRT on the same file, being another build of the same runtime: eight bits may round
# a step otherwise.
TOLERANCES = {None: 1e-4, "float16": 1e-4, "dynamic": 0.02, "int8": 0.02}


def classifier_of(path):
    return audio.AudioClassifier.create_from_options(
        audio.AudioClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
    )


def categories(path, clip, sample_rate):
    """Returns what it hears in a clip, best first: objects with `category_name`, `index` and `score`."""
    with classifier_of(path) as classifier:
        data = containers.AudioData.create_from_array(clip, sample_rate)
        (result,) = classifier.classify(data)
    return result.classifications[0].categories


def scores(path, clip, sample_rate):
    """Returns its scores of a clip in the order of the tags."""
    heard = {category.index: category.score for category in categories(path, clip, sample_rate)}
    return np.array([heard[index] for index in sorted(heard)])
