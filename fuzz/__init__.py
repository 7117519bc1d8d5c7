"""Hostile files: valid small files of every kind, changed where it hurts, through the reader that a user's file meets.

    python -m fuzz                       every target: 100,000 mutations or 20 minutes each, whichever comes first
    python -m fuzz png las --mutations 5000 --minutes 2 --seed 3

A finding is a crash, more than 5 seconds of processor time, more than 500 MB of memory, an allocation that only the
limit stopped, or an exception other than UserError. What was found is kept in corpus/TARGET/ and read by the tests.
"""
