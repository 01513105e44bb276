"""The program at the bedside: it stands between a device and the consult, and only dials out.

`client` joins as any client does, `stream` gives samples their place and time, `station` binds, sends and heals,
`program` is the command. It knows nothing of the server's inside.
"""
