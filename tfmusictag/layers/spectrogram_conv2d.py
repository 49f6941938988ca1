"""SpectrogramConv2D: a convolution of one channel, whose gradient for its input is computed as quickly as the rest."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfmusictag")
class SpectrogramConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D, with its arguments, for kernels that see much of a spectrogram.

    Shapes: (batch, frames, bands, 1) to (batch, frames', bands', filters).

    TensorFlow computes the gradient of the input well for many channels. For the single one of a spectrogram and a
    kernel of hundreds of weights it takes ten times as long as the convolution itself on a CPU, and whatever trains
    before it, be it the two parameters of a batch normalisation, needs it. Here that gradient is a convolution along
    frames with as many channels as the kernel has bands, which are then added up, each a band further. Outputs and the
    other gradients are TensorFlow's. That serves one channel, strides of 1 and padding `"valid"`; else all is Keras's.
    """

    def convolution_op(self, inputs, kernel):
        quick = (
            self.padding == "valid"
            and self.data_format == "channels_last"
            and self.strides == self.dilation_rate == (1, 1)
            and kernel.shape[2] == 1
            and kernel.shape[1] > 1
        )
        if not quick:
            return super().convolution_op(inputs, kernel)
        kernel = tf.convert_to_tensor(
            keras.ops.convert_to_tensor(kernel, self.compute_dtype)
        )  # Keras's may be variables
        return _convolved(inputs, kernel)


@tf.custom_gradient
def _convolved(inputs, kernel):
    def gradients(upstream):
        of_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=inputs, filter_sizes=kernel.shape, out_backprop=upstream, strides=[1, 1, 1, 1], padding="VALID"
        )
        return _gradient_of_input(upstream, kernel), of_kernel

    return tf.nn.conv2d(inputs, kernel, 1, "VALID"), gradients


def _gradient_of_input(upstream, kernel):
    """Returns (batch, frames, bands, 1) of (batch, frames', bands', filters) and (frames, bands, 1, filters)."""
    more = kernel.shape[0] - 1
    turned = tf.transpose(kernel[::-1, :, 0, :], (0, 2, 1))[:, None]  # (frames, 1, filters, bands)
    parts = tf.nn.conv2d(upstream, turned, 1, [[0, 0], [more, more], [0, 0], [0, 0]])  # (batch, frames, bands', bands)
    return tf.signal.overlap_and_add(parts, 1)[..., None]
