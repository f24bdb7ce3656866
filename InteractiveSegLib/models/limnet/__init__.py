"""LIM-Net: RITM turns clicks on one slice into a mask, XMem carries it through the volume. Nothing here knows sessions."""
