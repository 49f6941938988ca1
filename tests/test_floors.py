"""The walls of the house: who may import whom, and what importing costs."""

import ast
import pathlib
import subprocess
import sys

import pytest

import tfmusictag

PACKAGE = pathlib.Path(tfmusictag.__file__).parent

# A room may import rooms of lower floors only; rooms of one floor do not know each other.
FLOORS = {
    "_arguments": 0,
    "_cores": 0,
    "_files": 0,
    "_lazy": 0,
    "_quiet": 0,
    "_version": 0,
    "errors": 0,
    "audio": 1,
    "dsp": 1,
    "vocabulary": 1,
    "datasets": 2,
    "layers": 2,
    "porting": 2,
    "applications": 3,
    "exporting": 4,
    "plotting": 4,
    "records": 4,
    "pipelines": 5,
    "runtimes": 5,
    "scattering_plots": 5,
    "evaluation": 6,
    "fewshot": 6,
    "tagger": 6,
    "_output": 6,
    "beam": 7,
    "explain": 7,
    "training": 7,
    "cli": 8,
    "__init__": 9,
}
# TensorFlow itself, where keras.ops has no such operation or a file format is TensorFlow's own.
MAY_IMPORT_TENSORFLOW = {
    "evaluation",
    "explain",
    "exporting",
    "fewshot",
    "layers",
    "pipelines",
    "porting",
    "records",
    "training",
}
# Loaded inside the function that needs them, so that the rest works without them.
OPTIONAL = {"matplotlib", "tensorflow_io", "apache_beam", "fluidsynth", "mediapipe", "torch"}
# Base classes must be there when a module is read; its room imports it when one of them is asked for.
MAY_IMPORT_AT_TOP = {("beam", "apache_beam")}
# What `import tfmusictag` and tagging with LiteRT must not bring in, since each costs a good part of a second.
HEAVY = ["tensorflow", "keras", "kapre", "librosa", "pandas", "scipy", "sklearn", "h5py", "matplotlib"]

MODULES = sorted(PACKAGE.rglob("*.py"))


def room(module):
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(module):
    """Yields (name, whether at the top of the module) for all that a module imports, lazily or not."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            assert all(alias.name != "*" for alias in node.names), f"{module}: import *"
            yield node.module, node in top
            yield from ((f"{node.module}.{alias.name}", node in top) for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "lazy_module":
            yield node.args[0].value, False


def test_every_room_has_a_floor():
    assert {room(module) for module in MODULES} == set(FLOORS)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_imports_go_down_only(module):
    own = room(module)
    for name, at_top in imports(module):
        root, *rest = name.split(".")
        if root == "tfmusictag" and rest and rest[0] in FLOORS and rest[0] != own:
            assert FLOORS[rest[0]] < FLOORS[own], f"{own} (floor {FLOORS[own]}) imports {name}"
        if root == "tensorflow":
            assert own in MAY_IMPORT_TENSORFLOW, f"{own} imports {name}"
        if root in OPTIONAL and (own, root) not in MAY_IMPORT_AT_TOP:
            assert not at_top, f"{name} is optional and is imported at the top of {module}"


@pytest.mark.parametrize("module", sorted((PACKAGE / "applications").glob("[!_]*.py")), ids=lambda module: module.stem)
def test_applications_do_not_know_each_other(module):
    others = {path.stem for path in (PACKAGE / "applications").glob("[!_]*.py")} - {module.stem}
    assert not {name for name, _ in imports(module) if name.startswith("tfmusictag.applications.")} & {
        f"tfmusictag.applications.{other}" for other in others
    }


@pytest.mark.parametrize(
    "code",
    [
        "import tfmusictag",
        "import tfmusictag as t; t.list_models(); t.card('musicnn').labels('mtat')",
        "import tfmusictag as t; t.tag; t.Tagger; t.export_tflite; t.audio; t.records.verify",
        "import tfmusictag.cli as c; c.main(['card', 'musicnn'])",
    ],
)
def test_looking_around_imports_nothing_heavy(code):
    check = f"import sys; {code}; print(*[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    finished = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert finished.stderr.split() == []


def test_importing_the_package_reads_no_file_of_its_own_but_modules_and_opens_no_socket():
    check = """
import sys
seen = []
watched = ("open", "socket.__new__")
sys.addaudithook(lambda event, args: seen.append((event, str(args[0]))) if event in watched else None)
import tfmusictag
print([entry for entry in seen if entry[0] != "open" or not entry[1].endswith((".py", ".pyc"))])
"""
    finished = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in tfmusictag.__all__:
        assert getattr(tfmusictag, name) is not None
    assert set(tfmusictag.__all__) - {"__version__"} <= set(dir(tfmusictag))
    with pytest.raises(AttributeError, match="no attribute 'tga'"):
        tfmusictag.tga  # noqa: B018
