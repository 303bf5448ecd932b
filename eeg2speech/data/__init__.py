"""Recordings, stimuli, trials and segments; the store on disk; cutting and mixing."""

from eeg2speech.data.store import Store, StoreWriter
from eeg2speech.data.types import Cut, Recording, Segment, Sensors, Stimulus, StudyFacts, Trial

__all__ = ["Cut", "Recording", "Segment", "Sensors", "Store", "StoreWriter", "Stimulus", "StudyFacts", "Trial"]
