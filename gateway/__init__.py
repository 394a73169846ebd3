"""The one address for clients: checks, combines, passes deadlines on. It computes nothing."""
