"""A trained network with a new classifier, both trained, the network ten thousand times as slowly.

Source: Pons, Serra and Serra, "Training neural audio classifiers with few data", ICASSP 2019, and its code: a dense
softmax on the embedding, SGD of 0.1 on it, the gradients of the network below times 0.0001, 200 epochs, batches of 128.

Departs from it: any application with trained weights takes VGGish's place, its batch normalisation as it was trained.
"""

from tfmusictag._lazy import lazy_module
from tfmusictag.fewshot import _encoders, _training

keras = lazy_module("keras")


class Transfer(_training.ByEpochs):
    """Classifies waveforms at the model's rate by a trained network that is fine-tuned.

    Args:
        model: the name of an application, or a keras.Model with a layer called `embedding`, which is copied.
        weights: a preset's name or a path; None takes the first preset of real music, and stands with a
            keras.Model.
        arguments: of the application. The paper's VGGish has `{"embedding_activation": "relu"}`.
        learning_rate: of the classifier's SGD.
        encoder_scale: times which the gradients go on into the network, from 0 to 1.
        epochs, batch_size: an epoch is one window of each clip.
        hop_s: between windows that are heard, in seconds; None lets them follow each other.
        seed: of all that is random; it is Keras's own, as `keras.utils.set_random_seed` sets it.
    """

    def __init__(
        self,
        model="musicnn",
        weights=None,
        *,
        arguments=None,
        learning_rate=0.1,
        encoder_scale=1e-4,
        epochs=200,
        batch_size=128,
        hop_s=None,
        seed=0,
    ):
        self.model = model
        self.weights = weights
        self.arguments = arguments
        self.learning_rate = learning_rate
        self.encoder_scale = encoder_scale
        self.epochs = epochs
        self.batch_size = batch_size
        self.hop_s = hop_s
        self.seed = seed

    def _build(self):
        encoder = _encoders.trained(self.model, self.weights, self.arguments)
        inputs = keras.Input(encoder.input_shape[1:])
        embedding = _training.scaled_gradient(_encoders.settled(encoder)(inputs), self.encoder_scale)
        network = keras.Model(inputs, keras.layers.Dense(len(self.classes_), name="logits")(embedding))
        _training.compile_classifier(network, self.learning_rate)
        return network, _encoders.framing(encoder)
