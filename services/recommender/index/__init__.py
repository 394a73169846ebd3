"""Indexes that find the vectors nearest to a query. `interface` says what each of them promises."""
