"""Accepted slices with their masks, from which a network learns a task while it is done. Knows no network, no torch."""
from .entry import ContextEntry, EntryInfo, Provenance, make_entry
from .memory import ContextSet
from .store import ContextStore, as_task, check_task
from .transfer import export_context, import_context

__all__ = ["ContextEntry", "ContextSet", "ContextStore", "EntryInfo", "Provenance", "as_task", "check_task", "export_context",
           "import_context", "make_entry"]
