"""How schemathesis sends what is not JSON."""

import schemathesis


@schemathesis.serializer("application/x-protobuf")
def protobuf(_context, value):
    return value if isinstance(value, bytes) else str(value).encode()
