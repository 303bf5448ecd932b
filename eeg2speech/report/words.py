"""The words of the report: how metrics, controls and inputs are called, and how to read the tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from eeg2speech.records.schema import TRUE_EEG, SystemRef
from eeg2speech.records.summary import SELECTION

NOISE_CUE = "noise_cue"
MIXTURE = "mixture"
EXTRACTION, RETRIEVAL, GENERATION = TASKS = ("extraction", "retrieval", "generation")
"""Tasks in the order of their groups."""
PAIRS = (
    ("dprnn", "dprnn_blind"),
    *((name, "dprnn") for name in ("tfgridnet", "m3anet", "basen", "ubesd")),
    *(
        (f"{first}{separator}", f"{second}{separator}")
        for separator in ("", "-basen")
        for first, second in (
            ("brain_select_separated", "mtrf_select_separated"),
            ("separated_oracle", "mtrf_select_separated"),
            ("separated_oracle", "brain_select_separated"),
        )
    ),
    ("neurocodec", "neurocodec_blind"),
    ("neurocodec", "codec_mixture-unquantised"),
    ("brain_encoder", "ridge_mel"),
    ("brain_encoder", "ridge_envelope"),
    ("brain_encoder-mel", "ridge_mel"),
    ("eeg2speech", "eeg2speech_blind"),
    ("eeg2speech", "mean_speech"),
    ("eeg2speech", "ridge_mel"),
    ("eeg2speech", "nearest_segment"),
)
"""Systems that are compared whatever their ranks: with and without EEG, with what is simpler, with a perfect choice."""

HEADLINES = {EXTRACTION: "si_sdr", RETRIEVAL: "top10", GENERATION: "mel_correlation"}
"""By task, the metric that ranks and that the differences are about; where a group lacks it, its first metric."""
BESIDE = {EXTRACTION: SELECTION, RETRIEVAL: "attention_accuracy", GENERATION: "mel_top10"}
"""By task, the metric beside it in the tables of the controls."""
PER_SUBJECT = (RETRIEVAL,)
"""Tasks with a table of the subjects."""

METRIC_LABELS = {
    "si_sdr": "SI-SDR",
    "si_sdri": "SI-SDRi",
    "sdr": "SDR",
    "pesq_wb": "PESQ-WB",
    "pesq_nb": "PESQ-NB",
    "si_sdr_voiced": "SI-SDR, silence removed",
    "sdr_voiced": "SDR, silence removed",
    "si_sdr_decimated": "SI-SDR, every third sample",
    "pesq_nb_8k": "PESQ-NB, 8 kHz as published",
    "stoi": "STOI",
    "estoi": "ESTOI",
    SELECTION: "selection accuracy",
    "top1": "top-1",
    "top5": "top-5",
    "top10": "top-10",
    "rank": "rank among candidates",
    "match_mismatch_2": "match among 2",
    "match_mismatch_5": "match among 5",
    "mel_top1": "mel top-1",
    "mel_top10": "mel top-10",
    "mcd": "mel-cepstral distortion",
    "f0_correlation": "F0 correlation",
    "dnsmos": "DNSMOS",
    "frechet_distance": "Frechet distance",
    "frechet_resemblyzer": "Frechet distance, resemblyzer",
}
"""How metrics are called where their own names, without the underscores, will not do."""

COLUMNS = {
    EXTRACTION: (
        *(
            "si_sdr",
            "si_sdri",
            "sdr",
            "si_sdr_voiced",
            "sdr_voiced",
            "si_sdr_decimated",
            "pesq_wb",
            "pesq_nb",
            "pesq_nb_8k",
        ),
        *("stoi", "estoi", SELECTION),
    ),
    RETRIEVAL: (
        *("top1", "top5", "top10", "reciprocal_rank", "rank"),
        *("match_mismatch_2", "match_mismatch_5", "attention_accuracy"),
    ),
    GENERATION: (
        *("mel_correlation", "mel_top1", "mel_top10", "mel_reciprocal_rank", "envelope_correlation"),
        *("log_spectral_distance", "mcd", "f0_correlation", "stoi", "estoi", "pesq_wb", "speaker_similarity", "dnsmos"),
    ),
}
"""Metrics of each task in the order of the columns; others follow by name."""

CONTROL_LABELS = {
    TRUE_EEG: "the EEG as it is",
    NOISE_CUE: "Gaussian noise, each channel's own mean and deviation, per segment",
    "noise_cue_global": "Gaussian noise, one mean and deviation for all, as published",
    "zero": "zeros",
    "time_shift": "EEG of another time of the same trial",
    "other_trial": "EEG of another trial of the same subject",
    "other_subject": "EEG of another subject",
    "phase_randomised": "EEG with random phases, the same spectrum",
    "channel_shuffle": "EEG with its channels in another order",
}
"""Controls in the order of the rows; others follow by name."""

NUMBERS = (
    "Every system was trained and scored under the same split. A number is the mean over all test segments that could "
    "be scored; in brackets is its 95 % interval: a bootstrap over subjects and stimulus pairs, crossed, with 10,000 "
    "resamples, as wide as two-way clustering says. Intervals are not widened for the number of comparisons; the p of "
    "paired differences is corrected for it. Several seeds of a training are a further source of spread."
)
RANKS = (
    "`ranks` are those that the data leaves possible: from one more than the number of systems that are better to the "
    "number that are not worse, by all paired differences of the ranked systems, at 95 % for all of them together."
)
AUDIT = (
    "`audit` is the verdict on the split, made before anything was trained: `clean`, or what a score could owe to "
    "something other than the EEG. What is looked for, and what each finding means, is in the audit itself."
)
DROP = (
    "`noise-cue drop` is the mean over segments of the score with the true EEG minus the score with noise in its "
    "place. It is necessary and not sufficient: a system may read who listens, or which trial it is, and not the "
    "speech. So `uses EEG` says yes when the score, or the share of right choices, drops with noise and with EEG of "
    "another time of the same trial, after Holm's correction; no when under the latter neither drops and the interval "
    "of the share of right choices excludes a drop of 0.1; and else that it cannot tell. The reports of the controls "
    "give reasons."
)
FAILED = (
    "A score that cannot be computed is counted as failed, with its reason, and never replaced; `*` marks a mean that "
    "lacks such segments. A system without all its controls and segments is incomplete: no mean, no rank."
)
SEES = "`sees` is the most that a system is given."
RANKED = (
    "only those that see no more of the sound than the mixture are ranked; rows marked `ref` are floors and ceilings "
    "that are given clean speech."
)
OF_TASK = {
    EXTRACTION: (
        "`right` and `wrong` are the segments (how many) in which the estimate is closer to the attended or to the "
        "other talker; ties are in neither.",
    ),
    RETRIEVAL: (
        "Retrieval: which of the candidates was heard? The candidates are the sounds of the test segments, the same "
        "sound counted once. Ranked are systems that see each candidate by itself; rows marked `ref` see more, such "
        "as the whole stimulus around a candidate.",
        "`top-1`, `top-5` and `top-10` are the share of segments whose own candidate is among the first 1, 5 or 10; "
        "the rank among candidates is a median, 1 the best; `match among 2` and `match among 5` ask the same of the "
        "true candidate and 1 or 4 others; `attention accuracy` asks it of the attended and the competing talker of "
        "the same time alone: auditory attention decoding.",
    ),
    GENERATION: (
        "Generation: speech from the EEG alone. Ranked are systems that are given no sound of the test segment; rows "
        "marked `ref` are given some and show what the measures can reach.",
        "`mel correlation` compares the generated with the true log-mel spectrogram; `mel top-1`, `mel top-10` and "
        "`mel reciprocal rank` ask whether that correlation finds the true segment among the candidates. Speech that "
        "sounds natural need not be the speech that was heard: the measures of quality alone do not tell.",
    ),
}
"""By task, what is to be said of its tables."""
CHANCE = (
    "The row `chance` is what an answer at random gives, where that is known. A result whose interval contains it is "
    "not shown to be better than chance, and the tables of the controls say so: with noise in place of the EEG, none "
    "should be better."
)
MEDIAN = "Where a column says `median`, the number and its interval are the median's."
ELSEWHERE = (
    "A `+` in the name of a system marks a row from elsewhere: its record was sent by whoever stands after the `+` and "
    "passed `eeg2speech verify`, see docs/submitting.md."
)
SENDER = "+"
"""What stands in the name of a system from elsewhere, before a word for the sender."""
SPEED = (
    "`real-time factor` is the median time of an answer to one segment of 4 s over its length, in float32, on two "
    "threads of a CPU or on the device named; `algorithmic latency` is how long a sound has to wait for input that "
    "comes after it, whatever the computer's speed: of systems with a stream, that of the smallest chunk that kept up "
    "in real time; of others, of a window of 2 s that moves by 0.2 s, whose newest 0.2 s have no context from the "
    "future, unlike in the scores. Records, tails, memory and stages: results/latency."
)
WHOLE_SET = "A measure of the whole set of segments, such as a Frechet distance, has no interval."


SPECIAL = {"chance": CHANCE, "median": MEDIAN, "whole set": WHOLE_SET, "elsewhere": ELSEWHERE, "speed": SPEED}
"""What has to be explained where there is such a thing."""


def how_to_read(tasks: Collection[str], special: Collection[str] = ()) -> list[str]:
    """How the tables of ``tasks`` are read, and what is ``SPECIAL`` in them: no more than is in them."""
    found = [task for task in TASKS if task in tasks]
    lines = [NUMBERS, RANKS, _sees(found), DROP, AUDIT]
    lines += [line for task in found if task == EXTRACTION for line in OF_TASK[task]]
    lines += [FAILED, *(line for task in found if task != EXTRACTION for line in OF_TASK[task])]
    return lines + [line for name, line in SPECIAL.items() if name in special]


def _sees(tasks: list[str]) -> str:
    """The other tasks say what is ranked in lines of their own."""
    if EXTRACTION not in tasks:
        return SEES
    start = "" if tasks == [EXTRACTION] else "in extraction, "
    ranked = f"{start}{RANKED}"
    return f"{SEES} {ranked[:1].upper()}{ranked[1:]}"


def metric_label(name: str) -> str:
    """How a metric is called in a table."""
    return METRIC_LABELS.get(name, name.replace("_", " "))


def of_aggregate(label: str, aggregate: str) -> str:
    """The label of a metric that is not averaged says so."""
    return label if aggregate == "mean" else f"{aggregate} {label}"


def in_order(names: set[str], known: Iterable[str]) -> tuple[str, ...]:
    """``names`` in the order of ``known``, those that are not known last, by name."""
    places = {name: place for place, name in enumerate(known)}
    return tuple(sorted(names, key=lambda name: (places.get(name, len(places)), name)))


SOUNDS = {
    "mixture": "mixture",
    "sources": "clean sources",
    "target": "the target itself",
    "candidates": "candidates",
    "stimuli": "whole stimuli",
}


def what_it_sees(system: SystemRef) -> str:
    """The most that a system is given, in words."""
    more = [word for word, given in (("EEG", system.uses_eeg), ("subject", system.uses_subject)) if given]
    if system.sees == "nothing":
        return f"{' + '.join(more)} only" if more else "nothing"
    only = " only" if system.sees in ("mixture", "candidates", "stimuli") and not more else ""
    return " + ".join([SOUNDS[system.sees], *more]) + only
