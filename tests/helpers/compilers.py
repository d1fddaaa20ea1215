"""A mark for tests that build the native library."""

import pytest

from fathomlab.engine.backends.native_library import find_compiler

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C++ compiler")
