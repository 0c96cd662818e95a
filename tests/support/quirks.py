"""Quirks of the paper's normalisation, all switched off."""

from dataclasses import fields

from weak_to_strong.method.answers import PaperQuirks

NO_QUIRKS = PaperQuirks(*[False] * len(fields(PaperQuirks)))
