"""A list of broken components: class, the check that it fails, and the message."""

BROKEN = []


def breaks(check, message):
    """Notes which check a class fails, and with what message."""

    def note(cls):
        BROKEN.append((cls, check, message))
        return cls

    return note
