"""Tags that are asked for."""

from tfmusictag import errors


def index_of(tag, labels):
    """Returns the place of a tag among the outputs; ValueError with the nearest for an unknown one."""
    if tag not in labels:
        raise errors.unknown_choice("tag", tag, labels)
    return labels.index(tag)


def chosen(tag, labels):
    """Returns the tags that are asked for, as a tuple, empty for None; ValueError for an unknown one or one twice."""
    if tag is None:
        return ()
    tags = tuple(tag) if isinstance(tag, list | tuple) else (tag,)
    for each in tags:
        index_of(each, labels)
    if not tags or len(set(tags)) != len(tags):
        raise ValueError(f"`tag` must be None, a tag or different ones; received {tag!r}.")
    return tags
