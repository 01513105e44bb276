"""Names of the things that signalling talks about. All are opaque strings chosen by the server."""

from typing import NewType

ConsultId = NewType("ConsultId", str)
ParticipantId = NewType("ParticipantId", str)
SessionId = NewType("SessionId", str)
PatientId = NewType("PatientId", str)
TransportId = NewType("TransportId", str)
ProducerId = NewType("ProducerId", str)
ConsumerId = NewType("ConsumerId", str)
DataProducerId = NewType("DataProducerId", str)
DataConsumerId = NewType("DataConsumerId", str)
