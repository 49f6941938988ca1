"""Tags that are asked for."""

from tfmusictag import errors


def numbers(classes):
    """Returns what the tags of outputs are called that nobody named."""
    return tuple(str(index) for index in range(classes))


def index_of(tag, labels):
    """Returns the place of a tag among the outputs; ValueError with the nearest for an unknown one."""
    if tag not in labels and labels == numbers(len(labels)):
        raise ValueError(
            f"`tag` must be one of the outputs '0' to '{len(labels) - 1}', since nobody named the tags, which "
            f"`labels` does; received {tag!r}."
        )
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
