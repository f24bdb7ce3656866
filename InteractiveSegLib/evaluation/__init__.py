"""How good is it, and against what: measures, tasks, peers, protocol. Knows the session, never a network."""
