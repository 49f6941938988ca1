"""TFLite metadata: what a phone's audio tasks read in a model file, written and read without any TensorFlow.

The format is that of tflite-support's `metadata_schema.fbs`, version 1.5.0: a FlatBuffer with the identifier M001
inside the model, and a zip archive behind it. Field numbers below count from 0 in the order of that schema. Our own
`tfmusictag.json` lies in the archive too: it repeats what `read_metadata` returns, so that no FlatBuffer has to be
taken apart before a file can tag.
"""

import dataclasses
import io
import json
import zipfile

from tfmusictag import errors
from tfmusictag.dsp import framing as _framing

# The name of the buffer in the model, and the first four letters of its content.
ENTRY = "TFLITE_METADATA"
IDENTIFIER = b"M001"
# The first version of the schema that has AudioProperties, the youngest thing in use here.
MIN_PARSER_VERSION = "1.3.0"

LABELS_FILE = "labels.txt"
FACTS_FILE = "tfmusictag.json"
# Larger members are not ours: a list of tags is some kilobytes.
_MAX_MEMBER_BYTES = 1 << 20

# union ContentProperties and enum AssociatedFileType.
_FEATURE_PROPERTIES = 1
_AUDIO_PROPERTIES = 4
_TENSOR_AXIS_LABELS = 2


@dataclasses.dataclass(frozen=True)
class TFLiteMetadata:
    """What an exported file says of itself.

    Attributes:
        name, description, version, author, licence: text for people.
        sample_rate: of the waveform, in Hz.
        num_samples: width of the input (1, num_samples).
        hop_samples, edge_samples, grid_samples: how a file is cut, as in `tfmusictag.dsp.framing.Framing`.
        output: name of the output, `tags` or the layer's.
        classes: width of the output's last axis.
        variant: `float32`, `float16`, `dynamic` or `int8`.
        labels: tags in output order, as a tuple; empty for another output than tags.
    """

    name: str
    description: str
    version: str
    author: str
    licence: str
    sample_rate: int
    num_samples: int
    hop_samples: int
    edge_samples: int
    grid_samples: int
    output: str
    classes: int
    variant: str
    labels: tuple = ()

    @property
    def framing(self):
        """How a file is cut into the windows that the network takes."""
        return _framing.Framing(
            self.sample_rate, self.num_samples, self.hop_samples, self.edge_samples, self.grid_samples
        )


def read_metadata(path):
    """Reads what a TFLite file of ours says of itself, without TensorFlow and without reading the weights.

    Raises:
        ModelError: `no_metadata`, for a file that `export_tflite` has not written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            stored = json.loads(_member(archive, FACTS_FILE))
            labels = _member(archive, LABELS_FILE).splitlines() if LABELS_FILE in archive.namelist() else []
        found = TFLiteMetadata(**stored, labels=tuple(labels))
        for field in dataclasses.fields(found):
            if type(getattr(found, field.name)) is not field.type:
                raise ValueError(f"{field.name} is {getattr(found, field.name)!r}")
        if labels and len(labels) != found.classes:
            raise ValueError(f"{len(labels)} labels for {found.classes} classes")
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise errors.ModelError(
            "no_metadata", f"{path} has no metadata of tfmusictag, which export_tflite writes: {error}."
        ) from error
    return found


def _member(archive, name):
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > _MAX_MEMBER_BYTES:
        raise ValueError(f"{name} is compressed or larger than {_MAX_MEMBER_BYTES} bytes")
    return archive.read(info).decode("utf-8")


def facts(found):
    """Returns the metadata as a dictionary that JSON can hold."""
    return {**dataclasses.asdict(found), "labels": list(found.labels)}


def attach(model, found):
    """Returns the bytes of `model` with the archive behind them; the same bytes for the same facts."""
    stored = facts(found)
    labels = stored.pop("labels")
    members = {FACTS_FILE: json.dumps(stored, sort_keys=True, ensure_ascii=False, indent=1)}
    if labels:
        members[LABELS_FILE] = "".join(f"{label}\n" for label in labels)
    file = io.BytesIO(model)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        for name, text in members.items():
            # The date is fixed, and so is the system that the archive claims to come from.
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, text.encode("utf-8"))
    return file.getvalue()


def build(found):
    """Returns the FlatBuffer that goes into the model's `TFLITE_METADATA` buffer, as bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)

    audio = _table(builder, 2, {0: _uint32(found.sample_rate), 1: _uint32(1)})  # AudioProperties: sample_rate, channels
    content = _table(builder, 2, {0: _uint8(_AUDIO_PROPERTIES), 1: _offset(audio)})  # Content: type, properties
    waveform = _tensor(
        builder,
        "waveform",
        f"Mono waveform in [-1, 1] at {found.sample_rate} Hz, {found.num_samples} samples.",
        content,
        [],
    )

    files = []
    if found.labels:
        name = builder.CreateString(LABELS_FILE)
        description = builder.CreateString("One tag a line, in output order.")
        # AssociatedFile: name, description, type, locale, version.
        files.append(_table(builder, 5, {0: _offset(name), 1: _offset(description), 2: _int8(_TENSOR_AXIS_LABELS)}))
    features = _table(builder, 0, {})  # FeatureProperties has no fields
    content = _table(builder, 2, {0: _uint8(_FEATURE_PROPERTIES), 1: _offset(features)})
    output = _tensor(
        builder,
        found.output,
        "A score for each tag." if found.labels else f"Output of the layer {found.output}.",
        content,
        files,
    )

    inputs, outputs = _vector(builder, [waveform]), _vector(builder, [output])
    # SubGraphMetadata: name, description, input_tensor_metadata, output_tensor_metadata, and six that we leave out.
    subgraph = _table(builder, 10, {2: _offset(inputs), 3: _offset(outputs)})
    subgraphs = _vector(builder, [subgraph])
    text = {
        number: _offset(builder.CreateString(value))
        for number, value in (
            (0, found.name),
            (1, found.description),
            (2, found.version),
            (4, found.author),
            (5, found.licence),
            (7, MIN_PARSER_VERSION),
        )
    }
    # ModelMetadata: name, description, version, subgraph_metadata, author, license, associated_files,
    # min_parser_version.
    model = _table(builder, 8, {**text, 3: _offset(subgraphs)})
    builder.Finish(model, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _tensor(builder, name, description, content, files):
    name, description = builder.CreateString(name), builder.CreateString(description)
    fields = {0: _offset(name), 1: _offset(description), 3: _offset(content)}
    if files:
        fields[6] = _offset(_vector(builder, files))
    # TensorMetadata: name, description, dimension_names, content, process_units, stats, associated_files.
    return _table(builder, 7, fields)


def _table(builder, num_fields, fields):
    """Writes a table whose fields are `number: put`, and returns where it is."""
    builder.StartObject(num_fields)
    for number, put in fields.items():
        put(builder, number)
    return builder.EndObject()


def _offset(where):
    return lambda builder, number: builder.PrependUOffsetTRelativeSlot(number, where, 0)


def _uint32(value):
    return lambda builder, number: builder.PrependUint32Slot(number, value, 0)


def _uint8(value):
    return lambda builder, number: builder.PrependUint8Slot(number, value, 0)


def _int8(value):
    return lambda builder, number: builder.PrependInt8Slot(number, value, 0)


def _vector(builder, offsets):
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
