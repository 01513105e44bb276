"""Counters and gauges of this process; names and labels never hold an id of a person or consult."""

from prometheus_client import Counter, Gauge

HTTP_REFUSALS = Counter("consilium_http_refusals_total", "Refused HTTP requests by code.", ["code"])
LOGINS = Counter("consilium_logins_total", "Sign-in attempts by result.", ["result"])
TOKENS = Counter("consilium_consult_tokens_total", "Consult tokens by what became of them.", ["result"])
RECORD_READS = Counter("consilium_record_reads_total", "Reads of the record by FHIR type.", ["type"])
LOOP_LAG = Gauge("consilium_event_loop_lag_seconds", "How late the event loop woke up last.")
AUDIT_ROWS = Gauge("consilium_audit_rows", "Rows in the audit chain.")
CERT_EXPIRY = Gauge("consilium_cert_expiry_seconds", "Seconds until the server's certificate expires.")
