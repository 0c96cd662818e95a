"""Raw files and embedded problems, read into canonical tables and splits (paper section 4.1).

Here belongs what turns a source into PROBLEMS, QUESTIONS and GOLD. Model outputs never do.
"""
