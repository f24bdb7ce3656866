"""Between Slicer and the library: MRML nodes on one side, numpy arrays and prompts on the other."""
