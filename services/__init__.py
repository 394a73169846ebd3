"""The services behind the gateway; none imports another."""
