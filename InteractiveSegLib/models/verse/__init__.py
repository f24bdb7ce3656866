"""VerSe and its encoder UTNet, as networks over tensors."""
from .network import load

__all__ = ["load"]
