"""How good volumes become by a few clicks: items, methods, the paper's protocol, tables. Knows the session, never a network."""
