"""SpectrogramConv2D: a convolution of one channel that trains more quickly on a CPU."""

import keras
import tensorflow as tf

# Frames that a kernel must have, and filters that there may be, for blocks to be quicker, with AVX2 and with AVX-512:
# they multiply as many times as a kernel of 15 more frames, which for short ones outweighs what they save.
_LONG, _NARROW = 64, 24
_BLOCK = 16  # frames


@keras.saving.register_keras_serializable("tfmusictag")
class SpectrogramConv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D, with its arguments, for kernels that see much of a spectrogram.

    Shapes: (batch, frames, bands, 1) to (batch, frames', bands', filters).

    TensorFlow computes convolutions and their gradients well for many channels. For the single one of a spectrogram two
    things take several times as long on a CPU as they need, and are computed in another way here:

    - The gradient of the input, where a kernel sees several bands and padding is `"valid"`; whatever trains before the
      layer needs it, be it the two parameters of a batch normalisation. It is a convolution along frames with as many
      channels as the kernel has bands, which are then added up, each a band further.
    - In training all of a convolution along frames alone with few filters, for kernels of 64 frames and more: blocks of
      16 frames become the channels.

    Both want one channel and strides of 1, blocks a known number of bands as well; all else is Keras's, as is what the
    layer gives outside of training.
    """

    def call(self, inputs, training=None):
        """Convolves (batch, frames, bands, 1); with `training=True` maybe in blocks.

        Raises:
            ValueError: fewer frames or bands than the kernel has, without padding.
        """
        if not (training and self._single(self.kernel) and self._long_and_narrow() and inputs.shape[2] is not None):
            return super().call(inputs)
        shape = self.compute_output_shape(inputs.shape)
        outputs = _in_blocks(inputs, keras.ops.convert_to_tensor(self.kernel, self.compute_dtype), self.padding)
        outputs = tf.ensure_shape(outputs, shape)
        outputs = outputs + keras.ops.cast(self.bias, outputs.dtype) if self.use_bias else outputs
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs, kernel):
        if not (self._single(kernel) and self.padding == "valid" and kernel.shape[1] > 1):
            return super().convolution_op(inputs, kernel)
        kernel = tf.convert_to_tensor(
            keras.ops.convert_to_tensor(kernel, self.compute_dtype)
        )  # Keras's may be variables
        return _convolved(inputs, kernel)

    def _single(self, kernel):
        steps = self.strides == self.dilation_rate == (1, 1)
        return steps and self.data_format == "channels_last" and kernel.shape[2] == 1

    def _long_and_narrow(self):
        frames, bands = self.kernel_size
        return frames >= _LONG and bands == 1 and self.filters <= _NARROW


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


def _in_blocks(inputs, kernel, padding):
    """Convolves (batch, frames, bands, 1) with (length, 1, 1, filters): what comes out of a block is computed at once.

    A block of outputs needs the inputs of a few, and each of its frames the kernel, one frame later than the last.
    """
    length, _, _, filters = kernel.shape
    bands = inputs.shape[2]
    before, after = ((length - 1) // 2, length // 2) if padding == "same" else (0, 0)
    frames = tf.shape(inputs)[1] + before + after - length + 1
    blocks, heard = -(-frames // _BLOCK), -(-(length + _BLOCK - 1) // _BLOCK)
    missing = (blocks + heard - 1) * _BLOCK - tf.shape(inputs)[1] - before
    x = tf.pad(inputs[..., 0], [[0, 0], [before, missing], [0, 0]])
    x = tf.transpose(tf.reshape(x, (-1, blocks + heard - 1, _BLOCK, bands)), (0, 1, 3, 2))

    longer = tf.pad(kernel[:, 0, 0, :], [[_BLOCK - 1, heard * _BLOCK - length], [0, 0]])
    later = [longer[_BLOCK - 1 - by : _BLOCK - 1 - by + heard * _BLOCK] for by in range(_BLOCK)]
    x = tf.nn.conv2d(x, tf.reshape(tf.stack(later, 1), (heard, 1, _BLOCK, _BLOCK * filters)), 1, "VALID")

    x = tf.transpose(tf.reshape(x, (-1, blocks, bands, _BLOCK, filters)), (0, 1, 3, 2, 4))
    return tf.reshape(x, (-1, blocks * _BLOCK, bands, filters))[:, :frames]
