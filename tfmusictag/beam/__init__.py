"""Tagging, and building records, on an engine: transforms of Apache Beam for Flink, Spark, Dataflow or this machine.

They want the extra `beam`, which is imported with the first of them. docs/beam.md tells how to run them.
"""

from tfmusictag import errors
from tfmusictag._lazy import lazy_attributes

_transform, __dir__ = lazy_attributes(
    __name__, {"BuildRecords": "building", "EmbedFiles": "listening", "TagFiles": "listening"}
)


def __getattr__(name):
    if name in __dir__():
        try:
            import apache_beam  # noqa: F401 (their modules import it at the top: it is the base of their classes)
        except ImportError as error:
            raise errors.missing_extra("apache-beam", "beam") from error
    return _transform(name)
