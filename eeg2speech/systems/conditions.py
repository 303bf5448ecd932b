"""Conditions: under which circumstances a declared system is trained and tested, whatever system it is.

This is the declaration alone; ``eeg2speech.evaluation.conditions`` puts it into effect. No torch is imported.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from eeg2speech.errors import BadInput

EXTRACTION_ONLY = {
    "window": "segments are candidates, or are made whole, and have the protocol's length",
    "noise_share": "there, noise would be taught to stand for speech",
}
"""Conditions that extraction alone knows, and why."""


class Conditions(BaseModel):
    """What a system is given; as it stands, all of it. Training and test are alike unless told."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    channels: int | None = Field(default=None, ge=1, description="electrodes, spread over the head; none given: all")
    delay: float = Field(default=0.0, ge=-5, le=5, description="seconds by which its EEG begins later than its sound")
    window: float | None = Field(
        default=None,
        ge=0.1,
        description="seconds heard at once; none given: a system's own, and whole segments in test",
    )
    noise_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the training windows with the noise cue in place of the EEG"
    )
    train_share: float = Field(default=1.0, gt=0, le=1, description="share of the training trials that is learned from")

    def told(self) -> dict[str, Any]:
        """Those that are not as they always are; empty where there is nothing to tell."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def require_task(self, task: str, where: object) -> None:
        """Refuse conditions that a task does not know."""
        for name in self.told():
            if name in EXTRACTION_ONLY and task != "extraction":
                raise BadInput(where, f"conditions.{name}", "the task extraction", f"{task}: {EXTRACTION_ONLY[name]}")
