"""Measures how well songs are recommended, by one protocol, so that figures compare.

The task is the next song: of a playlist that training never saw, the songs before one are the
history, and that song is the target. See `split`, `cases` and `metrics` for the protocol,
`baselines` for what the song model is measured against, and `experiment` for all of it at once.
"""
