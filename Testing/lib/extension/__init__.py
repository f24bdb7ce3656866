"""Tests of the Slicer extension; a package, so that this conftest does not hide the one of the library's tests."""
