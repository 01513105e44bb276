"""HTTP routes: each turns a request into one call of identity, record or storage."""
