"""FrequencyDependentConv2D: a convolution whose kernel is another one in every band."""

import keras
from keras import ops

from tfmusictag import _arguments

_KERNEL = 3


@keras.saving.register_keras_serializable("tfmusictag")
class FrequencyDependentConv2D(keras.layers.Layer):
    """Maps (batch, frames, bands, channels) to (batch, frames', bands', filters), with a kernel for each band there.

    Kernels are 3 x 3 and the input is padded by a zero on all sides, so that frames' = (frames - 1) // strides + 1, and
    bands' likewise. In frame t and band u of the output stands

        bias[u] + sum over p, q of padded[strides t + p, strides u + q] kernel[u, p, q]

    where `kernel` is (bands', 3 frames, 3 bands, channels, filters): kernel[u] is laid out as that of a Conv2D. Every
    band is computed as a convolution along frames alone, of three neighbouring bands beside each other; that is several
    times as fast, above all in training, as one product of gathered patches or as a grouped convolution.

    Args:
        filters: channels of the result.
        strides: along frames and along bands.
        dropout: share of the (output band, channel) pairs that are dropped whole in training, from 0 to less than 1:
            a channel is hidden from one band's kernel and not from the next.
        kernel_initializer: of the kernel; None stands for normal numbers of variance 2 / (9 bands' filters), which is
            what Kaiming's rule by outputs gives where the bands count as further filters, as in the source.
        seed: of the dropout.

    Raises:
        ValueError: a value outside of the above, or an input whose bands or channels are not known.

    Source: Bour, "Frequency dependent convolutions for music tagging", MediaEval 2021.
    """

    def __init__(self, filters, strides=1, dropout=0.0, kernel_initializer=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = _arguments.whole("filters", filters, least=1)
        self.strides = _arguments.whole("strides", strides, least=1)
        self.dropout = _arguments.share("dropout", dropout)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.seed = seed
        if self.dropout:
            self.seed_generator = keras.random.SeedGenerator(seed)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape):
        if None in input_shape[2:]:
            raise ValueError(
                "the input of FrequencyDependentConv2D must have known bands and channels; received a shape of "
                f"{tuple(input_shape)}."
            )
        rows = self.compute_output_shape(input_shape)[2]
        self.kernel = self.add_weight(
            shape=(rows, _KERNEL, _KERNEL, input_shape[-1], self.filters),
            # Keras counts all axes but the last two as the field of a kernel, bands too: the rule wanted.
            initializer=self.kernel_initializer
            or keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            name="kernel",
        )
        self.bias = self.add_weight(shape=(rows, self.filters), initializer="zeros", name="bias")
        super().build(input_shape)

    def call(self, inputs, training=False):
        channels = inputs.shape[-1]
        padded = ops.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        bands = ops.unstack(padded, axis=2)  # of (batch, frames + 2, channels) each
        # Unstacked at once: the gradient of a slice is as large as the whole, for each of the slices.
        kernels = ops.unstack(ops.reshape(self.kernel, (-1, _KERNEL, _KERNEL * channels, self.filters)))
        kept = [None] * len(kernels)
        if training and self.dropout:
            ones = ops.ones((ops.shape(inputs)[0], 1, len(kernels), channels), inputs.dtype)
            kept = ops.unstack(keras.random.dropout(ones, self.dropout, seed=self.seed_generator), axis=2)
        rows = []
        for row, (kernel, scale) in enumerate(zip(kernels, kept, strict=True)):
            seen = ops.concatenate(bands[row * self.strides :][:_KERNEL], axis=-1)  # (batch, frames + 2, 3 * channels)
            if scale is not None:
                seen = seen * ops.concatenate([scale] * _KERNEL, axis=-1)
            rows.append(ops.conv(seen, kernel, self.strides, "valid", data_format="channels_last"))
        return ops.stack(rows, axis=2) + self.bias

    def compute_output_shape(self, input_shape):
        batch, *sizes, _ = input_shape
        return batch, *(None if size is None else (size - 1) // self.strides + 1 for size in sizes), self.filters

    def get_config(self):
        initializer = self.kernel_initializer
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "dropout": self.dropout,
            "kernel_initializer": None if initializer is None else keras.initializers.serialize(initializer),
            "seed": self.seed,
        }
