"""Files below a folder, for datasets whose folders are their table."""

import os


def files(folder, ending):
    """Lists the files below `folder` as sorted paths relative to it, with slashes.

    `ending` is that of their names, or a tuple of several, in small letters; those of the names may be capital.
    """
    found = []
    for place, _, names in os.walk(folder):
        below = os.path.relpath(place, folder).replace(os.sep, "/")
        found += [name if below == "." else f"{below}/{name}" for name in names if name.lower().endswith(ending)]
    return sorted(found)
