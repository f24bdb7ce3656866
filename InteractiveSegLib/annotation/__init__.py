"""Annotating a folder of studies case by case: what is done, what is next, what was said. Knows no windows, prints nothing."""
from .case import OpenCase
from .state import CaseRecord
from .study import Study

__all__ = ["CaseRecord", "OpenCase", "Study"]
