"""The learned speech encoder of Defossez et al. 2023: the brain encoder's convolutions on a mel spectrogram.

It is trained together with the brain encoder, by ``eeg2speech.models.contrastive.clip_loss``. Frame t of its output
stands for frame t of the spectrogram, which therefore has the brain encoder's rate.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from eeg2speech.errors import BadInput
from eeg2speech.models.brain_encoder import conv_blocks


class DeepMel(nn.Module):
    """Mel spectrogram [B, bands, F] -> features [B, D, F].

    As in the authors' settings, the last block ends at the width D, and its second convolution has neither batch norm
    nor GELU. They use 120 bands, D = 768, 320 hidden channels and 5 blocks.

    Args:
        bands: of the spectrogram. dimension: width D of the features. hidden: width of the blocks.

    Raises:
        BadInput: sizes under 1.
    """

    def __init__(self, bands: int, dimension: int, hidden: int = 320, blocks: int = 5) -> None:
        super().__init__()
        sizes = {"bands": bands, "dimension": dimension, "hidden": hidden, "blocks": blocks}
        for field, value in sizes.items():
            if value < 1:
                raise BadInput("DeepMel", field, "1 or more", value)
        self.bands = bands
        self.blocks = conv_blocks(bands, hidden, blocks, outputs=dimension)

    def forward(self, mel: Tensor) -> Tensor:
        """[B, bands, F], best the logarithm, of about unit variance -> [B, D, F].

        Raises:
            BadInput: another shape, or values that are not finite (a logarithm of 0).
        """
        if mel.ndim != 3 or mel.shape[1] != self.bands or not mel.shape[-1]:
            raise BadInput("DeepMel", "mel", f"shape [batch, {self.bands}, frames]", list(mel.shape))
        if not mel.isfinite().all():
            raise BadInput("DeepMel", "mel", "finite values", f"{int((~mel.isfinite()).sum())} that are not")
        return cast(Tensor, self.blocks(mel))
