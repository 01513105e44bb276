"""Everything the server keeps: tables, transactions, the consult store and the audit chain."""
