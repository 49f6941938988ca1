"""Tables as they are published, with the line of every row, so that what is wrong can be found.

Everything here raises ValueError, or FileNotFoundError for a file that is missing; no TensorFlow, no audio.
"""

import csv
import difflib
import io
import itertools
import math
import os
import re

import pandas as pd

_SHOWN = 3  # of many faults
_ENDS = re.compile(rb"\r\n|\n|\r")


def read(path, *, delimiter=",", header=None, rest=None, required=(), encoding="utf-8", blanks=True):
    """Reads a table of text as a DataFrame of strings; its column `line` is the row's last line in the file, from 1.

    Quotes may hold delimiters and line ends; a byte order mark and CRLF are no part of any value; empty lines are
    passed over.

    Args:
        path: of the file.
        header: names of the columns where the file has no line of them.
        rest: name of the last column where rows go on with more values; it holds lists.
        required: columns that must be there.
        blanks: whether blanks behind a delimiter are of the value; where not, quotes may follow them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another encoding, a row with too few or too many values, no row at all, a column that is missing,
            there twice or called `line`.
    """
    given = split_lines(text(path, encoding))
    reader = csv.reader(given, delimiter=delimiter, skipinitialspace=not blanks, strict=True)
    rows = []
    try:
        for row in reader:
            if row:
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error
    if header is None:
        if not rows:
            raise ValueError(f"{path} must begin with the names of its columns; it is empty.")
        (at, header), rows = rows[0], rows[1:]
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            raise ValueError(f"{path}, line {at}: the column {twice[0]!r} is there twice.")
        if "line" in header:
            raise ValueError(f"{path}, line {at}: no column may be called `line`, which counts the lines; rename it.")
        for name in required:
            if name not in header:
                raise ValueError(f"{path}, line {at}: there must be a column {name!r};{_near(name, header)}")
    if not rows:
        raise ValueError(f"{path}: there must be a row at least; there is none.")
    width = len(header)
    for line, row in rows:
        if len(row) < width or (rest is None and len(row) > width):
            raise ValueError(f"{path}, line {line}: {len(row)} values, and there must be {width}: {_listed(header)}.")
    if rest is not None:
        rows = [(line, [*row[: width - 1], row[width - 1 :]]) for line, row in rows]
    table = pd.DataFrame([row for _, row in rows], columns=list(header), dtype=object)
    table["line"] = [line for line, _ in rows]
    return table


def text(path, encoding="utf-8"):
    """Returns what a text file holds, without a byte order mark.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another encoding, or an unknown one.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        found = data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = len(_ENDS.findall(data[: error.start])) + 1
        raise ValueError(
            f"{path}, line {line}: it must be text in {encoding.upper()}; byte {error.start} is "
            f"0x{data[error.start]:02x}. Save it again in that encoding."
        ) from error
    except (LookupError, TypeError):
        raise ValueError(
            f"`encoding` must be one of text that Python knows, such as utf-8 or latin-1; received {encoding!r}."
        ) from None
    if "\0" in found:
        line = len(split_lines(found[: found.index("\0") + 1]))
        raise ValueError(
            f"{path}, line {line}: it must be text in {encoding.upper()}, and has characters NUL, as UTF-16 and UTF-32 "
            "have when they are read as that. Save it again in that encoding."
        )
    return found


def split_lines(text):
    """Lists the lines of a text with their ends, which are CRLF, LF and CR: `str.splitlines` cuts at others too."""
    return list(io.StringIO(text, newline=""))


def lines(path, encoding="utf-8"):
    """Lists the lines of a text file that are not empty, without the space around them."""
    return [line.strip() for line in split_lines(text(path, encoding)) if line.strip()]


def find(folder, *names):
    """Returns the first of `names` that is in `folder`, as a path.

    Raises:
        FileNotFoundError: none is there.
    """
    paths = [os.path.join(os.fspath(folder), name) for name in names]
    for path in paths:
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"{' or '.join(paths)} must be there and {'are' if len(paths) > 1 else 'is'} missing.")


def integers(table, column, path):
    """Returns a column of a table as integers.

    Raises:
        ValueError: a value is none.
    """
    found = []
    for line, value in zip(table["line"], table[column], strict=True):
        try:
            found.append(int(value))
        except ValueError:
            raise ValueError(f"{path}, line {line}: `{column}` must be a whole number; received {value!r}.") from None
    return found


def numbers(table, column, path, what, *, zero=False):
    """Returns a column of a table as finite numbers above 0, or from 0 on.

    Args:
        what: that the numbers are, for the error: seconds.

    Raises:
        ValueError: a value is none.
    """
    found = []
    for line, value in zip(table["line"], table[column], strict=True):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf or (number == 0 and not zero):
            raise ValueError(f"{path}, line {line}: `{column}` must be {what}; received {value!r}.")
        found.append(number)
    return found


def apart(table, seen, path):
    """Refuses tracks that another file has, and adds those of this one to `seen`, the names of files by track.

    Raises:
        ValueError: with the lines.
    """
    rows = zip(table["line"], table["track_id"], strict=True)
    refuse([f"line {line}: {track!r} is in {seen[track]} already" for line, track in rows if track in seen], path)
    seen.update(dict.fromkeys(table["track_id"], os.path.basename(path)))


def check(table, tags, path):
    """Refuses a table of tracks, with `track_id`, `tags` and `line`, in which one is there twice or a tag is unknown.

    Args:
        table: of which `tags` holds lists.
        tags: the allowed ones, or None.
        path: of what the lines are lines of.

    Raises:
        ValueError: with the lines of the first faults.
    """
    faults = []
    first = {}
    for line, track in zip(table["line"], table["track_id"], strict=True):
        if track in first:
            faults.append(f"line {line}: {track!r} is on line {first[track]} already")
        else:
            first[track] = line
    if tags is not None:
        known = set(tags)
        for line, given in zip(table["line"], table["tags"], strict=True):
            faults += [f"line {line}: unknown tag {tag!r};{_near(tag, known)}" for tag in given if tag not in known]
    refuse(faults, path)


def refuse_shared_files(table, path):
    """Refuses a table in which two tracks are of one file, which may be in two splits.

    Raises:
        ValueError: with the lines, of the lists of the splits.
    """
    faults, first = [], {}
    for row in table[table["path"].duplicated(keep=False)].to_dict("records"):
        other = first.setdefault(row["path"], row)
        if other is not row:
            places = [f"{of['track_id']!r} in {of['split']} (line {of['line']})" for of in (other, row)]
            faults.append(f"the file {row['path']!r} is that of {' and '.join(places)}")
    refuse(faults, path)


def leaks(table, column):
    """Lists the values of a column that rows of several splits have, as (value, splits); empty values are unknown."""
    splits = table[table[column] != ""].groupby(column, sort=True)["split"].unique()
    return [(value, sorted(found)) for value, found in splits.items() if len(found) > 1]


def refuse_leaks(table, column, path):
    """Refuses a table in which rows of several splits have a value of a column, such as an artist.

    Raises:
        ValueError: with the value, and a line of each split; with the path of a row that is on none.
    """
    faults = []
    for value, splits in leaks(table, column):
        rows = [table[(table[column] == value) & (table["split"] == split)].iloc[0] for split in splits]
        places = [f"{row['split']} ({'line ' + str(row['line']) if row['line'] else row['path']})" for row in rows]
        faults.append(f"the {column} {value!r} is in the splits {' and '.join(places)}")
    refuse(faults, path)


def refuse(faults, path):
    """Raises a ValueError with the first of `faults`, if there are any."""
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        said = "; ".join(text.rstrip(".") for text in faults[:_SHOWN]) + more
        raise ValueError(f"{path}: {said}{'' if said.endswith('?') else '.'}")


def _near(name, known):
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" did you mean {found[0]!r}?" if found else f" there are {_listed(sorted(known))}."


def _listed(names):
    names = list(names)
    shown = ", ".join(itertools.islice(names, 8))
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
