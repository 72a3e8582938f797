"""Mutated inputs against the contract of a file from a stranger: finite numbers or one plain error.

python -m tests.campaign --count 100 --seed 1 --only audio
"""
