"""HL7 v2 messages of the hospital <-> FHIR R4 transactions that cross the lock.

`framing` (MLLP) -> `charset` -> `message` (segments and fields) -> one module per message (`adt`, `oru`, `orders`,
`documents`, `schedule`, `referral`, `pharmacy`), each a table of v2 field -> FHIR element -> `bundle`.
`convert` is the door in, `acks` what is answered, `outgoing` the way back. Pure: no clock, no I/O.
"""
