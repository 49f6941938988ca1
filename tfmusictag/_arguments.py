"""Checks of arguments that several rooms have."""

import math
import operator

import numpy as np


def whole(argument, received, least):
    """Returns `received` as an int; ValueError where it is no whole number of at least `least`."""
    try:
        number = operator.index(received)
    except TypeError:
        number = least - 1
    if number < least or isinstance(received, bool):
        raise ValueError(f"`{argument}` must be a whole number of at least {least}; received {received!r}.")
    return number


def positive(argument, received):
    """Returns `received` as a float; ValueError where it is no finite number above 0."""
    number = _number(received)
    if not 0 < number < math.inf:
        raise ValueError(f"`{argument}` must be a positive number; received {received!r}.")
    return number


def finite(argument, received):
    """Returns `received` as a float; ValueError where it is no finite number."""
    number = _number(received)
    if not math.isfinite(number):
        raise ValueError(f"`{argument}` must be a finite number; received {received!r}.")
    return number


def flag(argument, received):
    """Returns `received`; ValueError where it is neither True nor False."""
    if not isinstance(received, bool):
        raise ValueError(f"`{argument}` must be True or False; received {received!r}.")
    return received


def share(argument, received):
    """Returns `received` as a float; ValueError where it is no number from 0 to less than 1."""
    number = _number(received)
    if not 0 <= number < 1:
        raise ValueError(f"`{argument}` must be from 0 to less than 1; received {received!r}.")
    return number


def _number(received):
    """Returns `received` as a float, not a number where it is none."""
    known = isinstance(received, (int, float, np.number)) and not isinstance(received, bool)
    return float(received) if known else math.nan
