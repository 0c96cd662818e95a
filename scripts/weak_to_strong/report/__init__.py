"""What a reader sees: the report page, plots, text tables, the paper's tables and figures.

Everything here starts from finished tables; nothing else imports it. Computing a metric never
belongs here.
"""
