"""TIS (Liu et al. 2022): an automatic 3D segmentation, and its correction by clicks, all classes at once."""
