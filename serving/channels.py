"""Channels to the services behind a server."""

import json

import grpc

_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            # Every service here only reads, so a call that never reached one may be sent again.
            # gRPC never retries a stream that has begun.
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def open_channel(target: str, service: str, max_message_bytes: int) -> grpc.aio.Channel:
    """Open a channel that balances over the target's addresses and avoids unhealthy ones.

    Args:
        target: A gRPC target such as `127.0.0.1:50051` or `dns:///recommender:50051`.
        service: Full name of the service, whose health decides.
        max_message_bytes: Largest request or response.
    """
    config = _SERVICE_CONFIG | {"healthCheckConfig": {"serviceName": service}}
    return grpc.aio.insecure_channel(
        target,
        options=(
            ("grpc.service_config", json.dumps(config)),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # A service that comes back is used again within this time.
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 500),
        ),
    )
