"""The wheel with the trained weights, for the tests that need it: fetched once, kept between sessions."""

import functools
import os
import pathlib
from unittest import mock

import pytest

from tfmusictag.applications.musicnn import PRESETS
from tfmusictag.errors import ModelError
from tfmusictag.porting import wheel


@functools.cache
def _fetch():
    folder = os.environ.get("TFMUSICTAG_TEST_CACHE") or pathlib.Path.home() / ".cache" / "tfmusictag-tests"
    with mock.patch.dict(os.environ, TFMUSICTAG_CACHE=str(folder)):
        try:
            return wheel.fetch(PRESETS["mtat"].source)
        except ModelError as error:
            return error


def wheel_path():
    """Returns the path of the wheel, in `TFMUSICTAG_TEST_CACHE`/downloads; skips the test without a network."""
    fetched = _fetch()
    if isinstance(fetched, ModelError):
        if fetched.code in ("offline", "download_failed"):
            pytest.skip(f"no trained weights without a network: {fetched}")
        raise fetched
    return fetched
