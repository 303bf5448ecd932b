"""Prints the record's JSON schema: ``python -m eeg2speech.records > eeg2speech/records/record.schema.json``."""

import sys

from eeg2speech.records.schema import json_schema

sys.stdout.write(json_schema())
