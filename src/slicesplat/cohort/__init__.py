"""Many examinations of a data set: one after another, each by itself, and none stops the others.

`io.bids` finds them, `subject` reconstructs one, `loop` goes through them; `derivative` knows what is written, and
where.
"""
