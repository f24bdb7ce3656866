"""What must hold with a person at the mouse: run in the application, and in the tests on slicer-core."""
