"""Accepted slices with their masks, from which a network learns a task while it is done. Knows no network, no torch."""
from .entry import ContextEntry, EntryInfo, Provenance
from .memory import ContextSet
from .store import ContextStore
from .transfer import export_context, import_context

__all__ = ["ContextEntry", "ContextSet", "ContextStore", "EntryInfo", "Provenance", "export_context", "import_context"]
