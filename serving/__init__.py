"""What every Segue server shares; it knows no songs and no tokens."""
