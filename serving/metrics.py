"""Prometheus metrics of RPCs, under the names that go-grpc-prometheus made common."""

from prometheus_client import Counter, Gauge, Histogram

_LABELS = ("grpc_service", "grpc_method")
_BUCKETS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
)

STARTED = Counter("grpc_server_started", "RPCs begun.", _LABELS)
HANDLED = Counter("grpc_server_handled", "RPCs ended, by code.", (*_LABELS, "grpc_code"))
HANDLING_SECONDS = Histogram(
    "grpc_server_handling_seconds", "Time from begin to end of an RPC.", _LABELS, buckets=_BUCKETS
)
IN_FLIGHT = Gauge(
    "segue_rpcs_in_flight", "RPCs that are being served.", _LABELS, multiprocess_mode="livesum"
)
MESSAGES_SENT = Counter("grpc_server_msg_sent", "Messages sent.", _LABELS)
