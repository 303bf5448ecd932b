"""EEG2Speech benchmark: train and compare systems that turn EEG into speech, under uniform splits.

Five lines evaluate a model of your own::

    import eeg2speech

    result = eeg2speech.evaluate(my_model, study="simulated-clear", split="stimulus")
    print(result.table())

Importing this package imports no torch; the names below are loaded when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "BadInput": "eeg2speech.errors",
    "Budget": "eeg2speech.training.budget",
    "Context": "eeg2speech.systems.interface",
    "Facts": "eeg2speech.systems.interface",
    "Machine": "eeg2speech.evaluation.suite",
    "NetworkSystem": "eeg2speech.systems.network",
    "Store": "eeg2speech.data.store",
    "System": "eeg2speech.systems.interface",
    "ablation_report": "eeg2speech.report.ablation",
    "audit": "eeg2speech.splits",
    "audit_split": "eeg2speech.evaluation.audit",
    "check_embeddings": "eeg2speech.evaluation.embeddings",
    "evaluate": "eeg2speech.evaluation.api",
    "export_embeddings": "eeg2speech.evaluation.embeddings",
    "extract_files": "eeg2speech.evaluation.extract",
    "extract_study": "eeg2speech.evaluation.extract",
    "generate_file": "eeg2speech.evaluation.generate",
    "import_rows": "eeg2speech.evaluation.embeddings",
    "make_split": "eeg2speech.splits",
    "measure_curve": "eeg2speech.evaluation.window_curve",
    "prepare": "eeg2speech.data.studies.registry",
    "read_suite": "eeg2speech.evaluation.suite",
    "render_control_reports": "eeg2speech.report.control_report",
    "render_leaderboard": "eeg2speech.report",
    "repeat": "eeg2speech.evaluation.repeat",
    "run_suite": "eeg2speech.evaluation.run",
    "study_names": "eeg2speech.data.studies.registry",
    "system_names": "eeg2speech.systems.registry",
    "verify": "eeg2speech.evaluation.verify",
}

__all__ = [
    "BadInput",
    "Budget",
    "Context",
    "Facts",
    "Machine",
    "NetworkSystem",
    "Store",
    "System",
    "ablation_report",
    "audit",
    "audit_split",
    "check_embeddings",
    "evaluate",
    "export_embeddings",
    "extract_files",
    "extract_study",
    "generate_file",
    "import_rows",
    "make_split",
    "measure_curve",
    "prepare",
    "read_suite",
    "render_control_reports",
    "render_leaderboard",
    "repeat",
    "run_suite",
    "study_names",
    "system_names",
    "verify",
]

if TYPE_CHECKING:
    from eeg2speech.data.store import Store
    from eeg2speech.data.studies.registry import prepare, study_names
    from eeg2speech.errors import BadInput
    from eeg2speech.evaluation.api import evaluate
    from eeg2speech.evaluation.audit import audit_split
    from eeg2speech.evaluation.embeddings import check_embeddings, export_embeddings, import_rows
    from eeg2speech.evaluation.extract import extract_files, extract_study
    from eeg2speech.evaluation.generate import generate_file
    from eeg2speech.evaluation.repeat import repeat
    from eeg2speech.evaluation.run import run_suite
    from eeg2speech.evaluation.suite import Machine, read_suite
    from eeg2speech.evaluation.verify import verify
    from eeg2speech.evaluation.window_curve import measure_curve
    from eeg2speech.report import render_leaderboard
    from eeg2speech.report.ablation import ablation_report
    from eeg2speech.report.control_report import render_control_reports
    from eeg2speech.splits import audit, make_split
    from eeg2speech.systems.interface import Context, Facts, System
    from eeg2speech.systems.network import NetworkSystem
    from eeg2speech.systems.registry import system_names
    from eeg2speech.training.budget import Budget


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'eeg2speech' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
