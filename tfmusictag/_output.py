"""Where the command line's results go: lines of text, JSON or CSV, on standard output or in a file."""

import contextlib
import csv
import io
import json
import os
import re
import sys

# File names need not be text in the encoding of the system, and none may stop a run.
_ENCODING = {"encoding": sys.getfilesystemencoding(), "errors": sys.getfilesystemencodeerrors()}
_FILE = {"encoding": "utf-8", "errors": sys.getfilesystemencodeerrors(), "newline": ""}


def prepare_streams():
    """Lets standard output and error take any file name."""
    if sys.stderr is None:  # closed before the program began; `print` would turn to standard output
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (open to the end of the process)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(**_ENCODING)


def on_terminal():
    """Tells whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def complain(failure):
    """Says on standard error, in a line of JSON, what is wrong with one input."""
    print(json.dumps(failure), file=sys.stderr, flush=True)


def check_target(path, overwrite, hint=""):
    """Refuses, before any work, a file that cannot or must not be written.

    Raises:
        FileExistsError: it is there and `overwrite` is False.
        ValueError: it is no regular file, or its folder is missing or must not be written to.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} cannot be written: it is no regular file.")
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; --overwrite replaces it{hint}.")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise ValueError(f"{path} cannot be written: there is no folder {folder}.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: no permission to write to {folder}.")


class Output:
    """A context manager that writes results to standard output, or to a file that takes its name when all is done.

    Until then they stand in FILE.part, line by line, so that `--resume` goes on after a kill.

    Args:
        writer: `Tags` or `Embeddings`.
        path: the file; None for standard output.
        form: `"text"`, `"json"`, `"csv"`, or None: csv for a file that is called so, text on a terminal, else json.
        overwrite: whether the file is replaced.
        resume: whether results in the file or its part are kept; the names of their inputs are in `finished`.
    """

    def __init__(self, writer, path, form, *, overwrite, resume):
        if path is None and sys.stdout is None:
            raise ValueError("Standard output is closed; `--output` can name a file.")
        self._writer = writer
        self.path = None if path is None else os.path.realpath(path)
        self._form = form or _form(path)
        self.finished = set()
        self._lines = []  # of an earlier run
        self._models = set()  # whose they are
        self._empty = True
        if path is None:
            if resume:
                raise ValueError("`--resume` needs `--output`, where the finished inputs stand.")
            return
        self._part = f"{self.path}.part"
        if resume and self._form == "text":
            raise ValueError("`--resume` needs `--format json` or `csv`; text cannot be read back.")
        check_target(self.path, overwrite or resume, ", --resume goes on with it")
        if os.path.lexists(self._part) and not (overwrite or resume):
            raise FileExistsError(
                f"{self._part} is left of an interrupted run; --resume goes on with it, --overwrite begins anew."
            )
        if resume:
            for earlier in (self.path, self._part):
                if os.path.exists(earlier):
                    self._keep(earlier)

    @property
    def replaces(self):
        """Whether there is a file of this name already."""
        return self.path is not None and os.path.exists(self.path)

    def _keep(self, path):
        """Takes over what is finished in an earlier output; a last line that a kill cut off is done again."""
        with open(path, **_FILE) as file:
            content = file.read()
        try:
            rows = _json_rows(content) if self._form == "json" else _csv_rows(content, self._writer.columns)
            for row in rows:
                if row["status"] == "error" or row["path"] in self.finished:  # what failed is tried again
                    continue
                if self._writer.kind not in row:
                    raise ValueError(f"the results of {row['path']!r} are no {self._writer.kind}")
                self.finished.add(row["path"])
                self._models.add((row["model"], row["weights"]))
                self._lines.append(json.dumps(row) + "\n" if self._form == "json" else _csv_line(row.values()))
        except (ValueError, LookupError, TypeError, csv.Error) as error:
            reason = error if type(error) is ValueError else f"it does not hold {self._form} lines of results"
            raise ValueError(f"`--resume` cannot go on with {path}: {reason}.") from error

    def __enter__(self):
        if self.path is None:
            self._file = sys.stdout
            if self._form == "csv":
                self._file.write(_csv_line(self._writer.columns))
            return self
        # What is kept may stand in the part alone, so that is replaced by a whole file.
        fresh = f"{self._part}.new"
        with open(fresh, "w", **_FILE) as file:
            if self._form == "csv":
                file.write(_csv_line(self._writer.columns))
            file.writelines(self._lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._part)
        self._empty = not self._lines
        self._file = open(self._part, "a", **_FILE)
        return self

    def write(self, result, name):
        """Writes one result of the input `name`; a failure goes to standard error if it would not be seen here."""
        failed = result.status == "error"
        row = {**(result.to_dict() if failed else self._writer.row(result)), "path": name}
        if not failed and self._models and (row["model"], row["weights"]) not in self._models:
            known = ", ".join(f"{model} with {weights}" for model, weights in sorted(self._models))
            raise ValueError(
                f"`--resume` cannot go on with {self.path}: it holds results of {known}, and these are of "
                f"{row['model']} with {row['weights']}."
            )
        if failed and (self.path is not None or self._form == "text"):
            complain(row)
        if self._form == "json":
            self._file.write(json.dumps(row) + "\n")
        elif self._form == "csv":
            self._file.write(_csv_line(self._writer.cells(row)))
        elif not failed:
            self._file.write(self._writer.text({**row, "path": _shown(name)}))
        self._file.flush()
        self._empty = False

    def __exit__(self, kind, *_):
        if self.path is None:
            return
        with contextlib.nullcontext() if kind is None else contextlib.suppress(OSError):  # the first error counts
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
            if kind is None:
                os.replace(self._part, self.path)
            elif self._empty:
                os.unlink(self._part)


class Tags:
    """Writes the results of tagging, each with its `top` best tags, or all for None."""

    kind = "tags"
    columns = (
        *("path", "status", "duration_s", "sample_rate", "channels", "model", "weights", "warnings"),
        *("aggregate", "code", "message", "tags"),
    )

    def __init__(self, top):
        self._top = top

    def row(self, result):
        return result.to_dict(self._top)

    def cells(self, row):
        return _cells(row, self, ";".join(f"{tag['tag']}={tag['score']:.6f}" for tag in row.get("tags", ())))

    def text(self, row):
        lines = [row["path"], *(f"  warning: {text}" for text in row["warnings"])]
        lines += [f"  {tag['score']:.3f}  {tag['tag']}" for tag in row["tags"]]
        return "\n".join(lines) + "\n"


class Embeddings:
    """Writes embeddings, the mean over the windows of a file."""

    kind = "embedding"
    columns = (
        *("path", "status", "duration_s", "sample_rate", "channels", "model", "weights", "warnings"),
        *("code", "message", "embedding"),
    )

    def row(self, result):
        return result.to_dict()

    def cells(self, row):
        return _cells(row, self, ";".join(f"{value:.6f}" for value in row.get("embedding", ())))

    def text(self, row):
        lines = [row["path"], *(f"  warning: {text}" for text in row["warnings"])]
        lines.append(f"  {' '.join(f'{value:.4f}' for value in row['embedding'])}")
        return "\n".join(lines) + "\n"


class Progress:
    """A line on standard error that says how far the work is; only on a terminal."""

    def __init__(self, total, *, wanted):
        self._total, self._done = total, 0
        self.shown = sys.stderr.isatty() and wanted and total > 1

    def step(self):
        self._done += 1
        if self.shown:
            print(f"\r{self._done}/{self._total}", end="", file=sys.stderr, flush=True)

    def clear(self):
        if self.shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _form(path):
    if path is not None:
        return "csv" if path.lower().endswith(".csv") else "json"
    return "text" if on_terminal() else "json"


def _shown(name):
    """Returns a name in which nothing steers a terminal or breaks a line."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: ascii(found[0])[1:-1], name)


def _json_rows(content):
    *lines, _ = content.split("\n")  # what follows the last line feed is nothing, or was cut off
    return [json.loads(line) for line in lines]


def _csv_rows(content, columns):
    rows = list(csv.reader(io.StringIO(content, newline="")))
    # What follows the last line feed is nothing, or was cut off, or a line feed of a name that was cut off.
    if rows and (not content.endswith("\n") or content.count('"') % 2):
        rows.pop()
    if rows and tuple(rows[0]) != columns:
        raise ValueError(f"its first line is not {','.join(columns)}")
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"its lines have not {len(columns)} cells each")
    return [dict(zip(columns, row, strict=True)) for row in rows[1:]]


def _csv_line(cells):
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _cells(row, writer, last):
    row = {**row, "warnings": "; ".join(row.get("warnings", ()))}
    return [*(row.get(column, "") for column in writer.columns[:-1]), last]
