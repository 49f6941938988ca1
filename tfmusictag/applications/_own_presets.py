"""The weights that this package's own experiments trained, as presets: what `presets.json` says of them.

`experiments/presets.py` writes that file, and the weights into `saved_models/`.
"""

import functools
import importlib.resources
import json

from tfmusictag.applications._catalogue import Preset
from tfmusictag.dsp.framing import Framing
from tfmusictag.porting.bundled import Bundled

_FILE = importlib.resources.files(__package__) / "presets.json"
_LICENCE = "MIT"
_CITATION = "tfmusictag, experiments/presets.py"


@functools.cache
def listed():
    """Returns what the file says: {application: {preset: facts}}."""
    return json.loads(_FILE.read_text(encoding="utf-8"))


def presets(application):
    """Returns the presets of an application, a dictionary by their names."""
    return {name: _preset(name, told) for name, told in listed().get(application, {}).items()}


def _preset(name, told):
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in told["arguments"].items()}
    return Preset(
        name=name,
        title=told["title"],
        vocabulary=told["vocabulary"],
        training_data=told["training_data"],
        metrics=told["metrics"],
        licence=_LICENCE,
        citation=_CITATION,
        source=Bundled(**told["file"]),
        arguments=arguments,
        framing=Framing(**told["framing"]),
        rendered=True,
    )
