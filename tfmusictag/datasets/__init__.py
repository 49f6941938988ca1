"""Dataset builders for TensorFlow Datasets, a folder each.

After `import tfmusictag.datasets`, `tfds.load("magnatagatune/top50_clean")` and its siblings find them. Each module has
`metadata(manual_dir, config)`, the table of its tracks, which needs no audio and no build; `metadata` here takes the
dataset's name as tfds does.
"""

import importlib
import pathlib

import tensorflow_datasets as tfds

from tfmusictag import errors

_SUFFIX = "_dataset_builder"


def names():
    """Lists the names of the datasets."""
    found = pathlib.Path(__file__).parent.glob(f"*/*{_SUFFIX}.py")
    return tuple(sorted(path.parent.name for path in found))


def builder_class(name):
    """Returns the class of a dataset's builder.

    Raises:
        ValueError: an unknown name.
    """
    if name not in names():
        raise errors.unknown_choice("name", name, names())
    return importlib.import_module(f"{__name__}.{name}.{name}{_SUFFIX}").Builder


def metadata(name, manual_dir, config=None):
    """Returns the table of a dataset's tracks as a pandas.DataFrame, a row a track, without audio and without a build.

    Columns: `track_id`, `path` (below the folder of the audio, with slashes), `split`, `tags` (a list) and the source's
    own; `attrs["tags"]` holds the tags in output order.

    Args:
        name: of the dataset, with its configuration behind a slash, as in `"mtg_jamendo/moodtheme_split0"`, or without.
        manual_dir: where the files lie as they were published.
        config: the configuration, a name or an object; None takes that of `name`, or else the first.

    Raises:
        ValueError: an unknown name, or a file that is not as it was published.
        FileNotFoundError: a file that is missing.
    """
    name, _, named = name.partition("/")
    return builder_class(name).read_table(manual_dir, config if config is not None else named or None)


def files(name, manual_dir, config=None):
    """Returns the table of a dataset's tracks and the folder that their paths are below, for records and pipelines.

    Of a folder of one's own, and of datasets whose tables name every file, it warns where files are in no row.

    Args:
        name, manual_dir, config: as for `metadata`.

    Raises:
        ValueError, FileNotFoundError: as for `metadata`; FileNotFoundError without audio.
    """
    table = metadata(name, manual_dir, config)
    builder = builder_class(name.partition("/")[0])
    folder = builder.audio_folder(manual_dir, table)
    builder.unlisted(folder, table)
    return table, folder


def folder_config(name="mine", **options):
    """Returns the configuration of one's own folder; `**options` are those of `tagged_folder`'s Config."""
    return importlib.import_module(builder_class("tagged_folder").__module__).Config(name, **options)


class _Provider:
    """Lets tfds find the builders by name; their modules are imported when they are asked for."""

    def has_dataset(self, name):
        return name in names()

    def get_builder_cls(self, name):
        return builder_class(name)


tfds.core.registered.add_dataset_builder_provider(_Provider())
