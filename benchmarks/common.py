"""What the benchmarks share: rows of a table, turns, and where results go."""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

_HERE = pathlib.Path(__file__).parent
README = _HERE / "README.md"


@dataclasses.dataclass
class Row:
    """One line of the table; `result` in `unit` is to be `least` or more, or `most` or less, or is only told."""

    what: str
    case: str
    seconds: float
    result: float
    unit: str
    other_s: float | None = None
    least: float | None = None
    most: float | None = None
    aim: float | None = None
    runs_s: list = dataclasses.field(default_factory=list)
    other_runs_s: list = dataclasses.field(default_factory=list)
    spread: list = dataclasses.field(default_factory=list)  # the least and the greatest result of single turns

    @property
    def reached(self):
        return (self.least is None or self.result >= self.least) and (self.most is None or self.result <= self.most)

    def markdown(self):
        goal, reached = "", ""
        if self.least is not None or self.most is not None:
            goal = f"at least {self.least:g}" if self.most is None else f"at most {self.most:g}"
            reached = "yes" if self.reached else "**no**"
        spread = " ({:.3g} to {:.3g})".format(*self.spread) if self.spread else ""
        cells = (
            self.what,
            self.case,
            f"{self.seconds:.3g} s",
            "" if self.other_s is None else f"{self.other_s:.3g} s",
            f"**{self.result:.3g}** {self.unit}{spread}",
            goal + (f", aim {self.aim:g}" if self.aim else ""),
            reached,
        )
        return f"| {' | '.join(cells)} |"


HEAD = """\
| what | case | tfmusictag | compared with | result | must reach | reached |
|---|---|---|---|---|---|---|"""


def faster(what, case, ours, other, **goal):
    """Returns the row of two series of seconds; the result is how many times the first is faster."""
    ours_s, other_s = statistics.median(ours), statistics.median(other)
    goal = {"unit": "times faster", "other_s": other_s, **goal}
    return Row(what, case, ours_s, other_s / ours_s, runs_s=ours, other_runs_s=other, **goal)


def in_turns(repeats, things):
    """Calls each of {name: function that returns seconds} in turns; returns {name: list of seconds}."""
    times = {name: [] for name in things}
    for turn in range(1 + repeats):
        for name, thing in things.items():
            seconds = thing()
            if turn:
                times[name].append(seconds)
                print(f"  {name}: {seconds:.3f} s", file=sys.stderr)
    return times


def run(command, **environment):
    """Runs a command to its end; returns the wall time in seconds and what it printed."""
    start = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), capture_output=True, stdin=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{command} ended with status {done.returncode}:\n{done.stderr.decode()[-2000:]}")
    return seconds, done.stdout


def machine(cores):
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return {
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def arguments(described, rows, repeats=5):
    """Reads the arguments of a script, and keeps the process to its cores.

    Args:
        described: the script's docstring.
        rows: the names that `--rows` takes.
        repeats: how many turns are counted if nothing is said.
    """
    parser = argparse.ArgumentParser(description=described.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=rows, default=list(rows), help="[all, and write the results]")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="N", help=f"counted turns [{repeats}]")
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cores that all of it may use [2]")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    return options


def facts_of(packages):
    """Returns when, where and with what is measured, from now on."""
    import tfmusictag

    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine(len(os.sched_getaffinity(0))),
        "versions": {"python": platform.python_version(), "tfmusictag": tfmusictag.__version__}
        | {name: importlib.metadata.version(name) for name in packages},
    }


def finish(script, rows, facts, whole):
    """Prints the table, saves it if the whole of a script was run, and returns the exit status."""
    table = "\n".join([HEAD, *(row.markdown() for row in rows), "", measured(facts)])
    print(table)
    if whole:
        save(script, rows, facts, table)
    return 0 if all(row.reached for row in rows) else 1


def measured(facts):
    """Says of {"date", "machine", "versions"} when, where and with what it was measured: a line of a page's list."""
    where, versions = facts["machine"], facts["versions"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"- Measured on {facts['date']}: {where['cpu']}, {where['cores']} cores, {where['memory_gb']} GB, load "
        f"{where['load_before']} before the start; {named}."
    )


def save(script, rows, facts, table):
    """Writes results/<script>.json, and the table between the script's marks in README.md."""
    results = _HERE / "results" / f"{script}.json"
    listed = [{**dataclasses.asdict(row), "reached": row.reached} for row in rows]
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps({**facts, "rows": _rounded(listed)}, indent=2) + "\n")
    begin, end = f"<!-- {script}.py: begin -->", f"<!-- {script}.py: end -->"
    before, _, rest = README.read_text().partition(begin)
    README.write_text(f"{before}{begin}\n{table}\n{end}{rest.partition(end)[2]}")


def _rounded(value):
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
