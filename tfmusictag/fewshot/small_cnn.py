"""Small networks with strong regularisation, trained from nothing.

Source: Pons, Serra and Serra, "Training neural audio classifiers with few data", ICASSP 2019, section 2.1: SGD of 0.1,
the norm of all gradients at most 5, half the sum of squares of every kernel times 0.001, 200 epochs of one random
window a clip, batches of 256, the mean of the softmax over windows.

Departs from it: windows are heard every 42 frames and not at each, which takes 42 times as long.
"""

from tfmusictag import applications, errors
from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _encoders, _training

keras = lazy_module("keras")

MODELS = ("sb_cnn", "timbre_few", "vgg_few")


class SmallCNN(_training.ByEpochs):
    """Classifies waveforms at 44.1 kHz by a small convolutional network that is trained on them.

    Args:
        model: `"sb_cnn"`, `"vgg_few"` or `"timbre_few"`.
        arguments: of the application, such as `{"learnt_log": True}`.
        learning_rate, clip_norm: of SGD.
        l2: weight of half the sum of squares of all kernels.
        epochs, batch_size: an epoch is one window of each clip.
        hop_s: between windows that are heard, in seconds, rounded to frames; the paper's is one frame, 0.0232.
        seed: of all that is random; it is Keras's own, as `keras.utils.set_random_seed` sets it.
    """

    def __init__(
        self,
        model="sb_cnn",
        *,
        arguments=None,
        learning_rate=0.1,
        clip_norm=5.0,
        l2=0.001,
        epochs=200,
        batch_size=256,
        hop_s=0.975,
        seed=0,
    ):
        self.model = model
        self.arguments = arguments
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.l2 = l2
        self.epochs = epochs
        self.batch_size = batch_size
        self.hop_s = hop_s
        self.seed = seed

    def _build(self):
        if self.model not in MODELS:
            raise errors.unknown_choice("model", self.model, MODELS)
        arguments = {**dict(self.arguments or {}), "classes": len(self.classes_), "classifier_activation": None}
        network = applications.card(self.model).build(**arguments)
        _regularise(network, self.l2)
        _training.compile_classifier(network, self.learning_rate, self.clip_norm)
        return network, _encoders.framing(network)


def _regularise(network, l2):
    for variable in network.trainable_variables:
        if variable.name == "kernel":
            variable.regularizer = keras.regularizers.L2(l2 / 2)  # Keras's is the whole sum of squares
