"""Blocks that two or more families share. They know tensors only."""
