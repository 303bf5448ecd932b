"""Bring committed records up to date: ``python benchmarks/renew_records.py results [results/ablations/fusion ...]``.

Audits and manifests of the splits are made first, below the first folder. Nothing is trained and nothing is scored.
"""

import sys
from pathlib import Path

from eeg2speech.data.studies.registry import prepare
from eeg2speech.evaluation.audit import audit_split, keep
from eeg2speech.records.renew import renew_all
from eeg2speech.records.store import RecordStore
from eeg2speech.splits import make_split

roots = [Path(name) for name in sys.argv[1:]]
splits = {(r.study.name, r.split.kind, r.split.seed) for root in roots for r in RecordStore(root).read_all()}
for study, kind, seed in sorted(splits):
    store = prepare(study)
    made = make_split(store.index, kind, seed)
    found = audit_split(store, made)
    keep(found, made, roots[0])
    print(f"{study}, split {kind}, seed {seed}: {found.verdict}")
for root in roots:
    print(f"{root}: {len([*renew_all(root, roots[0])])} records renewed")
