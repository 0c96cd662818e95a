"""What every job does around its work: log, record, locks, cost, code digest, verification.

Here belongs what holds for any rule. What one rule computes never does.
"""
