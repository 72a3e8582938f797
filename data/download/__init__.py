"""Data sets from the internet: fetched, unpacked, prepared for fast reading."""
