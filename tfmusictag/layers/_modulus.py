"""The modulus of complex numbers that are kept as two real ones."""

import tensorflow as tf


@tf.custom_gradient
def _root(values):
    root = tf.sqrt(values)
    # At zero the slope is infinite; what comes before it is zero there, and so must the gradient be.
    return root, lambda upstream: 0.5 * upstream / tf.maximum(root, 1e-12)


def modulus(real, imaginary):
    """Returns the modulus, whose gradient is zero where it is."""
    return _root(tf.square(real) + tf.square(imaginary))


def of_parts(parts):
    """Returns the moduli (..., n) of real and imaginary parts (..., 2 * n), as a tuple of one."""
    count = parts.shape[-1] // 2
    return (modulus(parts[..., :count], parts[..., count:]),)
