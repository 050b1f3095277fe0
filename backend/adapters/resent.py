"""A dead letter on its way back into the log."""

from backend.ports.event_log import RESENT_HEADER, Message, Record


def resent(record: Record) -> Message:
    """The record as a message with the same key and headers, marked once as resent."""
    headers = tuple(header for header in record.headers if header[0] != RESENT_HEADER)
    return Message(record.value, record.key, (*headers, (RESENT_HEADER, b"1")))
