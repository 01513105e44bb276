"""Who is asking: accounts, sessions, consult tokens, guest links and paired screens."""
