"""Tag lists, one tag a line in the order of the outputs that were trained on them, and tables of tags to merge."""

import functools
import pathlib

from tfmusictag import errors

_FOLDER = pathlib.Path(__file__).parent


def names():
    """Lists the names that `labels` takes."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.txt")))


@functools.cache
def labels(name):
    """Returns the tags of the list `name` as a tuple of strings, in output order; ValueError for an unknown name."""
    if name not in names():
        raise errors.unknown_choice("name", name, names())
    return tuple((_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines())


@functools.cache
def merges(name):
    """Returns a table of tags to merge as a dictionary: what each becomes, None for one to drop; others stay.

    The tables are of MagnaTagATune's 188 tags: `magnatagatune_politecnico` (Politecnico 2017: negative tags dropped,
    123 stay) and `magnatagatune_choi` (Choi's public list: negative tags merged, 134 stay).

    Raises:
        ValueError: an unknown name.
    """
    known = sorted(path.stem for path in _FOLDER.glob("*.tsv"))
    if name not in known:
        raise errors.unknown_choice("name", name, known)
    _, *rows = (_FOLDER / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    return {tag: becomes or None for tag, becomes in (row.split("\t") for row in rows)}


def resolve(tags, classes=None):
    """Returns tags in output order as a tuple.

    Args:
        tags: one of `names()`, or a sequence of tags.
        classes: how many there must be; None takes any number.

    Raises:
        ValueError: an unknown name, another number, tags of several lines or none, or one of them twice.
    """
    if isinstance(tags, str):
        if tags not in names():
            raise errors.unknown_choice("labels", tags, names())
        tags = labels(tags)
    tags = tuple(tags)
    if classes is not None and len(tags) != classes:
        raise ValueError(f"`labels` must have a tag for each of the {classes} outputs; received {len(tags)}.")
    for tag in tags:
        if not isinstance(tag, str) or tag.splitlines() != [tag] or not tag.strip():
            raise ValueError(f"`labels` must be tags of one line each; received {tag!r}.")
    if len(set(tags)) != len(tags):
        twice = sorted({tag for tag in tags if tags.count(tag) > 1})
        raise ValueError(f"`labels` must differ from each other; received more than once: {twice}.")
    return tags
