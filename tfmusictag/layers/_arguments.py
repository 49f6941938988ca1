"""Checks of arguments that several layers have."""

import operator


def whole(argument, received, least):
    """Returns `received` as an int; ValueError where it is no whole number of at least `least`."""
    try:
        number = operator.index(received)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"`{argument}` must be a whole number of at least {least}; received {received!r}.")
    return number
