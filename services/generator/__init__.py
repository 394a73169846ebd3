"""Generates text token by token, and cuts text into tokens."""
