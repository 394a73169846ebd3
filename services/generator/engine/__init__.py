"""Engines that generate text. `interface` says what every one of them promises."""
