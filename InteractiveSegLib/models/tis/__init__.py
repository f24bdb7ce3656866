"""TIS (Liu et al. 2022): an automatic 3D segmentation, and its correction by clicks, all classes at once."""

# The shipped networks and the names of their labels 1, 2, ...; read without torch.
TARGETS = {
    "tis-hippocampus": ("anterior", "posterior"),
    "tis-cardiac": ("RV", "myocardium", "LV cavity"),
    "tis-atrium": ("left atrium",),
}
