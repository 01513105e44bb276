"""HL7 tables -> FHIR codes, as the HL7 v2-to-FHIR implementation guide maps them where it does (concept maps
``table-hl7xxxx-to-...``); what differs says why. A code that is not here is kept as text, never as something else."""

from typing import Final

_T: Final = "http://terminology.hl7.org/CodeSystem/"

GENDER: Final = {
    "M": "male", "F": "female", "O": "other", "U": "unknown", "A": "other", "N": "other",
    "1": "male", "2": "female", "0": "unknown", "9": "unknown", "男": "male", "女": "female",
}  # fmt: skip
"""0001; the digits are GB/T 2261.1 (ISO 5218), which Chinese systems send."""

MARITAL: Final = frozenset("ADILMPSTUWC")
"""0002 codes that v3-MaritalStatus has with the same meaning."""

PATIENT_CLASS: Final = {
    "I": ("IMP", "inpatient encounter"), "O": ("AMB", "ambulatory"), "E": ("EMER", "emergency"),
    "P": ("PRENC", "pre-admission"), "R": ("AMB", "ambulatory"), "B": ("IMP", "inpatient encounter"),
}  # fmt: skip
"""0004 -> v3-ActCode; others keep their v2 code."""
ACT_CODE: Final = f"{_T}v3-ActCode"

REPORT_STATUS: Final = {
    "O": "registered", "I": "registered", "S": "registered", "A": "partial", "P": "preliminary", "C": "corrected",
    "R": "preliminary", "F": "final", "X": "cancelled", "Y": "unknown", "Z": "unknown", "M": "corrected",
}  # fmt: skip
"""0123 -> DiagnosticReport.status."""

RESULT_STATUS: Final = {
    "C": "corrected", "D": "entered-in-error", "F": "final", "I": "registered", "N": "registered", "O": "registered",
    "P": "preliminary", "R": "preliminary", "S": "preliminary", "U": "final", "W": "entered-in-error",
    "X": "cancelled", "A": "amended", "B": "amended", "V": "final",
}  # fmt: skip
"""0085 -> Observation.status."""

INTERPRETATION_SYSTEM: Final = f"{_T}v3-ObservationInterpretation"
INTERPRETATION: Final = frozenset(
    {"L", "H", "LL", "HH", "<", ">", "N", "A", "AA", "U", "D", "B", "W", "S", "R", "I", "NS", "POS", "NEG", "IND",
     "DET", "ND", "RR", "WR", "NR", "EXP", "UNE", "SYN-R", "SYN-S", "LX", "HX", "SDD"}
)  # fmt: skip
"""0078 codes that v3-ObservationInterpretation has."""

ORDER_STATUS: Final = {
    "A": "active", "CA": "revoked", "CM": "completed", "DC": "revoked", "ER": "entered-in-error", "HD": "on-hold",
    "IP": "active", "RP": "revoked", "SC": "active",
}  # fmt: skip
"""0038 (ORC-5) -> ServiceRequest.status, MedicationRequest.status has other words (`MEDICATION_STATUS`)."""
ORDER_CONTROL: Final = {
    "NW": "active", "RL": "active", "XO": "active", "RO": "active", "PA": "active", "CH": "active", "RE": "active",
    "SN": "active", "OK": "active", "NA": "active", "XR": "active", "OE": "active",
    "CA": "revoked", "OC": "revoked", "CR": "revoked", "DC": "revoked", "OD": "revoked", "DR": "revoked",
    "RP": "revoked", "RU": "revoked", "UA": "revoked", "HD": "on-hold", "OH": "on-hold", "HR": "on-hold",
}  # fmt: skip
"""0119 (ORC-1), used where ORC-5 says nothing: what the order is after the event."""
CONTROL_DECIDES: Final = frozenset({"CA", "OC", "CR", "DC", "OD", "DR", "HD", "OH", "HR"})
"""Control codes that say more than a stale ORC-5 beside them: a cancelled order is never shown as active."""
MEDICATION_STATUS: Final = {
    "active": "active", "revoked": "stopped", "completed": "completed", "on-hold": "on-hold",
    "entered-in-error": "entered-in-error", "unknown": "unknown",
}  # fmt: skip
CANCELS_MEDICATION: Final = frozenset({"CA", "OC", "CR"})
"""Never given: cancelled rather than stopped."""

PRIORITY: Final = {
    "S": "stat", "A": "asap", "R": "routine", "P": "routine", "C": "urgent", "T": "urgent", "U": "urgent",
    "STAT": "stat", "ASAP": "asap", "ROUTINE": "routine",
}  # fmt: skip
"""0485 and 0027 (priority). T (timing critical) and C (callback) have no FHIR word; urgent is the nearest."""

DOC_STATUS: Final = {
    "AU": "final", "LA": "final", "DI": "preliminary", "DO": "preliminary", "IN": "preliminary", "IP": "preliminary",
    "PA": "preliminary", "CA": "entered-in-error",
}  # fmt: skip
"""CA is of 0273, but is written here too. 0271 (TXA-17) -> DocumentReference.docStatus."""
DOC_AVAILABILITY: Final = {"AV": "current", "CA": "entered-in-error", "OB": "superseded", "UN": "current"}
"""0273 (TXA-19) -> DocumentReference.status."""
CONFIDENTIALITY: Final = {"V": "V", "R": "R", "U": "N", "1": "N", "2": "R", "3": "V"}
"""0272 (TXA-18) -> v3-Confidentiality."""
CONFIDENTIALITY_SYSTEM: Final = f"{_T}v3-Confidentiality"

APPOINTMENT_STATUS: Final = {
    "PENDING": "pending", "WAITLIST": "waitlist", "BOOKED": "booked", "STARTED": "arrived", "COMPLETE": "fulfilled",
    "CANCELLED": "cancelled", "DC": "cancelled", "DELETED": "cancelled", "BLOCKED": "proposed", "OVERBOOK": "booked",
    "NOSHOW": "noshow",
}  # fmt: skip
"""0278 (SCH-25) -> Appointment.status."""

REFERRAL_TASK: Final = {"A": "accepted", "P": "requested", "R": "rejected", "E": "cancelled"}
"""0283 (RF1-1) -> Task.status."""
REFERRAL_REQUEST: Final = {"A": "active", "P": "active", "R": "revoked", "E": "revoked"}

SEVERITY: Final = {"SV": "severe", "MO": "moderate", "MI": "mild"}
"""0128 -> AllergyIntolerance.reaction.severity."""
ALLERGY_CATEGORY: Final = {"DA": "medication", "FA": "food", "EA": "environment"}
"""0127; the others have no FHIR category."""

OBSERVATION_CATEGORY_SYSTEM: Final = f"{_T}observation-category"
SECTION_CATEGORY: Final = (
    dict.fromkeys(["BG", "BLB", "CH", "CP", "HM", "IMM", "LAB", "MB", "MCB", "MYC", "SR", "TX", "VR", "SP", "CTH"],
                  "laboratory")
    | dict.fromkeys(["CUS", "CT", "EC", "NMR", "NMS", "OUS", "RAD", "RUS", "RX", "VUS", "XRC", "IMG"], "imaging")
    | dict.fromkeys(["PHR", "PT", "OT", "RC", "RT", "EN", "CG", "AU", "PAR"], "procedure")
)  # fmt: skip
"""0074 (OBR-24) -> observation-category."""
VITAL_SIGNS: Final = frozenset(
    {"8867-4", "8889-8", "9279-1", "8310-5", "59408-5", "2708-6", "8480-6", "8462-4", "8478-0", "85354-9", "29463-7",
     "8302-2", "39156-5"}
)  # fmt: skip
"""LOINC codes of FHIR's vital signs profile."""

NAME_USE: Final = {
    "L": "official", "D": "usual", "M": "maiden", "N": "nickname", "S": "anonymous", "T": "temp",
    "C": "old", "BAD": "old", "B": "official", "P": "usual", "ID": "usual",
}  # fmt: skip
"""0200. A (alias) has no FHIR use."""
NAME_REPRESENTATION: Final = {"A": "ABC", "I": "IDE", "P": "SYL"}
ADDRESS_USE: Final = {
    "H": ("home", None), "B": ("work", None), "O": ("work", None), "C": ("temp", None), "BA": ("old", None),
    "M": (None, "postal"), "L": (None, None), "P": ("home", None), "SH": (None, "postal"), "BI": ("billing", None),
}  # fmt: skip
"""0190 -> (Address.use, Address.type)."""
TELECOM_USE: Final = {
    "PRN": "home", "ORN": "home", "WPN": "work", "VHN": "home", "ASN": None, "EMR": None, "NET": None, "BPN": None,
    "PRS": "mobile",
}  # fmt: skip
TELECOM_SYSTEM: Final = {
    "PH": "phone", "CP": "phone", "FX": "fax", "BP": "pager", "INTERNET": "email", "X.400": "email", "SAT": "phone",
    "MD": "phone", "TDD": "phone", "TTY": "phone",
}  # fmt: skip

IDENTIFIER_TYPES: Final = f"{_T}v2-0203"

CODE_SYSTEMS: Final = {
    "LN": "http://loinc.org", "LOINC": "http://loinc.org",
    "SCT": "http://snomed.info/sct", "SNOMED": "http://snomed.info/sct", "SNM": "http://snomed.info/sct",
    "I10": "http://hl7.org/fhir/sid/icd-10", "ICD10": "http://hl7.org/fhir/sid/icd-10",
    "ICD-10": "http://hl7.org/fhir/sid/icd-10", "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9": "http://hl7.org/fhir/sid/icd-9-cm", "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm", "NDC": "http://hl7.org/fhir/sid/ndc",
    "WC": "http://www.whocc.no/atc", "ATC": "http://www.whocc.no/atc", "CVX": "http://hl7.org/fhir/sid/cvx",
    "C4": "http://www.ama-assn.org/go/cpt", "CPT4": "http://www.ama-assn.org/go/cpt",
    "UCUM": "http://unitsofmeasure.org", "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "MDC": "urn:iso:std:iso:11073:10101", "ISO3166": "urn:iso:std:iso:3166",
}  # fmt: skip
"""0396 -> URI."""


def v2_table(name: str) -> str | None:
    """``HL70078`` -> the URI of that table, None for anything else."""
    digits = name.upper().removeprefix("HL7")
    return f"{_T}v2-{digits}" if digits != name.upper() and len(digits) == 4 and digits.isdigit() else None
