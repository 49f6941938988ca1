"""What layers share that must not follow the global dtype policy."""


def float32_only(layer, kwargs):
    """Returns `kwargs` with dtype float32; ValueError where another one was asked for.

    Power spectra and small scores do not survive half precision, so front-ends and scores stay in float32 under every
    policy; the layer behind them casts to its own compute dtype.
    """
    dtype = kwargs.pop("dtype", None)
    name = getattr(dtype, "name", None) or (dtype["config"]["name"] if isinstance(dtype, dict) else dtype)
    if name not in (None, "float32"):
        raise ValueError(f"`dtype` of {layer} must be 'float32' under every policy; received {name!r}.")
    return {**kwargs, "dtype": "float32"}
