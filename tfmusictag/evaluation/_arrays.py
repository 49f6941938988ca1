"""What is asked of scores, targets and tags, by whoever takes them."""

import math

import numpy as np

from tfmusictag import _arguments, errors, vocabulary


def checked(scores, targets, tags=None, argument="scores"):
    """Returns scores as float64 and targets as bool, both (tracks, tags), and the tags' names as a tuple.

    Without names a tag is called by its place: "0", "1".

    Raises:
        ValueError: other shapes, no track or tag, scores that are not finite, targets other than 0 and 1, another
            number of names.
    """
    targets = matrix("targets", targets)
    names = named(tags, targets)
    return checked_scores(argument, scores, targets.shape, names), _hot(targets, names), names


def named(tags, targets):
    """Returns the tags' names as a tuple, one for each column of the targets.

    Raises:
        ValueError: targets that are no matrix or have no track or tag; names that are not one for each tag.
    """
    shape = np.shape(targets)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"`targets` must have the shape (tracks, tags), and one of each at least; received {shape}.")
    try:
        tags = tuple(map(str, range(shape[1]))) if tags is None else vocabulary.resolve(tags)
    except ValueError as error:
        raise ValueError(str(error).replace("`labels`", "`tags`")) from error
    if len(tags) != shape[1]:
        raise ValueError(f"`tags` must name each of the {shape[1]} tags of `targets`; received {len(tags)}.")
    return tags


def matrix(argument, values):
    """Returns values as an array.

    Raises:
        ValueError: rows of different lengths.
    """
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"`{argument}` must be numbers in rows of one length; received {values!r}.") from error


def checked_scores(argument, scores, shape, tags):
    """Returns scores as float64.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    scores = matrix(argument, scores)
    if scores.shape != shape:
        raise ValueError(f"`{argument}` must have the shape of `targets`, {shape}; received {scores.shape}.")
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"`{argument}` must be numbers; received {scores.dtype}.")
    scores = scores.astype(np.float64)
    wrong = np.argwhere(~np.isfinite(scores))
    if len(wrong):
        track, tag = wrong[0]
        raise ValueError(
            f"`{argument}` must be finite; {len(wrong)} are not, the first {scores[track, tag]} of track {track}, tag "
            f"{tags[tag]!r}."
        )
    return scores


def ranked(targets):
    """Tells for each tag whether tracks with it and without it can be told apart: there are both.

    Raises:
        ValueError: there is no such tag.
    """
    kept = targets.any(axis=0) & ~targets.all(axis=0)
    if not kept.any():
        raise ValueError("`targets` must hold a tag that some tracks have and others have not; there is none.")
    return kept


def check_draws(draws, confidence, seed, least=0):
    """Raises a ValueError for what is no number of draws, no share between 0 and 1, or no seed."""
    _arguments.whole("draws", draws, least)
    _arguments.whole("seed", seed, 0)
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be a number between 0 and 1; received {confidence!r}.")


def known(argument, value, allowed):
    """Returns what is one of `allowed`; else raises a ValueError."""
    if value not in allowed:
        raise errors.unknown_choice(argument, value, allowed)
    return value


def plain(value):
    """Returns numbers, and lists and dictionaries of them, as JSON takes them: what is undefined is None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value


def _hot(targets, tags):
    if targets.dtype.kind not in "biuf":
        raise ValueError(f"`targets` must be 0 or 1; received {targets.dtype}.")
    wrong = np.argwhere((targets != 0) & (targets != 1))
    if len(wrong):
        track, tag = wrong[0]
        raise ValueError(
            f"`targets` must be 0 or 1; received {targets[track, tag].item()!r} for track {track}, tag {tags[tag]!r}."
        )
    return targets.astype(bool)
