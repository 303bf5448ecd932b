"""Each condition does what it says, in training and in test; without conditions nothing is other than it was."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import eeg2speech
from eeg2speech.controls import controlled_eeg
from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.types import Segment, Sensors
from eeg2speech.errors import BadInput
from eeg2speech.evaluation import trained as trained_module
from eeg2speech.evaluation.conditions import context_of, examples_of, some_trials, view_of
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.evaluation.run import Bench, run_suite, scorer_of
from eeg2speech.evaluation.scoring import ExtractionTest
from eeg2speech.evaluation.suite import Machine, Suite, read_suite
from eeg2speech.evaluation.trained import Trained, load, ship, train
from eeg2speech.evaluation.windowed import Windows
from eeg2speech.records import RecordStore, paired_difference
from eeg2speech.splits import make_split
from eeg2speech.splits.manifest import Split
from eeg2speech.systems.conditions import Conditions
from eeg2speech.systems.interface import Context, Facts, NoSettings, System
from eeg2speech.systems.registry import declare, recorded
from eeg2speech.training.budget import Budget, RunOptions, Training
from eeg2speech.training.checkpoint import load_weights
from eeg2speech.training.examples import Examples
from eeg2speech.training.feature_examples import FeatureExamples
from eeg2speech.training.view import NoisySegment, View, noisy, spread

DEMO = protocol("demo-1")
QUIET = Machine(jobs=1, device="cpu", precision="32-true", progress=False)
TRIAL_SECONDS, EEG_RATE, AUDIO_RATE = 12.0, 128, 16_000


class Spy(System):
    """Answers with what it was given of the sound, and keeps what it was given."""

    facts = Facts(title="spy", licence="MIT", source="here", tasks=frozenset({"extraction", "retrieval", "generation"}))

    def __init__(self, context: Context) -> None:
        super().__init__(context, NoSettings())
        self.mixtures: list[Tensor] = []
        self.eeg: list[Tensor] = []

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        self.mixtures.append(mixture)
        self.eeg.append(eeg)
        return mixture

    def embed_eeg(self, eeg: Tensor, subject: Tensor) -> Tensor:
        self.eeg.append(eeg)
        return torch.ones(len(eeg), 1, 1)

    def embed_speech(self, speech: Tensor) -> Tensor:
        return torch.ones(len(speech), 1, 1)


@pytest.fixture(scope="module")
def split(store: Store) -> Split:
    return make_split(store.index, "trial")


def asked(store: Store, split: Split, conditions: Conditions, label: str = "demo-1") -> tuple[Spy, Any, Bench]:
    """A spy, its test under conditions, and the bench."""
    chosen = protocol(label)
    spy = Spy(context_of(conditions, store, chosen))
    bench = Bench(store, split, chosen, scorer_of(chosen, 1))
    return spy, bench.test(Trained(spy, Training.none(), None, conditions)), bench


def signals(test: Any, control: str = "true_eeg") -> list[Any]:
    return list(test.signals(control))


# Electrodes


def test_fewer_electrodes_are_among_more_and_spread(store: Store) -> None:
    sensors = store.index.sensors
    chosen = [spread(sensors, count) for count in (1, 4, 8, 16, 32, 64)]
    assert [len(places) for places in chosen] == [1, 4, 8, 16, 32, 64]
    assert chosen[-1] == list(range(64)) and sensors.names[chosen[0][0]] == "Cz"
    for fewer, more in zip(chosen, chosen[1:], strict=False):
        assert set(fewer) < set(more) and more == sorted(more)

    def nearest(places: list[int]) -> float:
        points = np.array(sensors.positions)[places]
        distance = np.linalg.norm(points[:, None] - points, axis=-1)
        return float(distance[distance > 0].min())

    at_random = [sorted(np.random.default_rng(seed).choice(64, 8, replace=False).tolist()) for seed in range(20)]
    assert nearest(chosen[2]) > max(nearest(places) for places in at_random)


def test_electrodes_that_are_not_there_are_refused(store: Store) -> None:
    with pytest.raises(BadInput, match="channels: expected 1 to 64, as the study has, found 65"):
        View.of(store, 65)
    lost = Sensors(("A", "B"), ((0.0, 0.0, 0.1), (float("nan"), 0.0, 0.0)))
    with pytest.raises(BadInput, match="channels: expected a study whose electrodes all have positions"):
        spread(lost, 1)


def test_a_system_has_the_chosen_electrodes_alone(store: Store, split: Split) -> None:
    rows = spread(store.index.sensors, 8)
    spy, test, bench = asked(store, split, Conditions(channels=8))
    assert spy.context.sensors.names == tuple(store.index.sensors.names[row] for row in rows)
    assert spy.context.sensors.positions == tuple(store.index.sensors.positions[row] for row in rows)
    signals(test)
    given = torch.cat(spy.eeg).numpy()
    assert np.array_equal(given, np.stack([store.cut_eeg(segment)[rows] for segment in bench.segments]))


def test_controls_act_on_the_electrodes_that_a_system_has(store: Store, split: Split) -> None:
    spy, test, bench = asked(store, split, Conditions(channels=4))
    true = view_of(Conditions(channels=4), store).cut_eeg(bench.segments[0])
    signals(test, "channel_shuffle")
    shuffled = spy.eeg[0][0].numpy()
    assert sorted(map(tuple, shuffled[:, :5].tolist())) == sorted(map(tuple, true[:, :5].tolist()))
    spy.eeg.clear()
    signals(test, "noise_cue")
    noise = spy.eeg[0][0].numpy()
    assert noise.shape == true.shape and not np.allclose(noise, true)
    assert np.allclose(noise.std(1), true.std(1), rtol=0.2)


def test_training_has_the_chosen_electrodes_alone(store: Store, split: Split) -> None:
    learn, check = examples_of(Conditions(channels=8), store, split, DEMO)
    rows = spread(store.index.sensors, 8)
    for part in (learn, check):
        segments = part.random(2.0, 3, 0, 0)
        batch = next(iter(part.loader(segments, 3)))
        assert np.array_equal(batch.eeg.numpy(), np.stack([store.cut_eeg(segment)[rows] for segment in segments]))


def test_a_view_of_all_electrodes_is_as_the_study(store: Store) -> None:
    view, segment = View.of(store, 64), Segment(next(iter(store.trials)), 1.0, 2.0)
    assert view.index.sensors == store.index.sensors and view.index.revision == store.index.revision
    assert np.array_equal(view.cut_eeg(segment), store.cut_eeg(segment))
    view.verify()


def test_a_view_goes_to_another_process_as_it_is(store: Store) -> None:
    view = View.of(store, 4, 0.5)
    there = pickle.loads(pickle.dumps(view))
    segment = Segment(next(iter(store.trials)), 1.0, 2.0)
    assert isinstance(there, View) and there.words == view.words and there.index.sensors == view.index.sensors
    assert np.array_equal(there.cut_eeg(segment), view.cut_eeg(segment))


# Delay


@pytest.mark.parametrize("delay", [0.25, -0.25, 0.1])
def test_a_delay_moves_the_eeg_by_whole_samples(store: Store, delay: float) -> None:
    name, view = next(iter(store.trials)), View.of(store, delay=delay)
    moved = store.cut_eeg(Segment(name, 4.0 + round(delay * EEG_RATE) / EEG_RATE, 3.0))
    assert np.array_equal(view.cut_eeg(Segment(name, 4.0, 3.0)), moved)


def test_beyond_a_trials_ends_there_is_nothing(store: Store) -> None:
    name = next(iter(store.trials))
    later = View.of(store, delay=0.25).cut_eeg(Segment(name, 9.0, 3.0))
    assert not later[:, -32:].any()
    assert np.array_equal(later[:, :-32], store.cut_eeg(Segment(name, 9.25, 2.75)))
    earlier = View.of(store, delay=-0.25).cut_eeg(Segment(name, 0.0, 3.0))
    assert not earlier[:, :32].any() and np.array_equal(earlier[:, 32:], store.cut_eeg(Segment(name, 0.0, 2.75)))
    assert not View.of(store, delay=20.0).cut_eeg(Segment(name, 0.0, 3.0)).any()
    with pytest.raises(BadInput, match=r"segment: expected a window within 0 to 12\.0 s"):
        View.of(store, delay=-0.25).cut_eeg(Segment(name, 10.0, 3.0))


def test_a_delay_leaves_the_sound_as_it_is(store: Store, split: Split) -> None:
    spy, test, bench = asked(store, split, Conditions(delay=0.5))
    plain, plain_test, _ = asked(store, split, Conditions())
    for one, other in zip(signals(test), signals(plain_test), strict=True):
        assert np.array_equal(one.mixture, other.mixture) and np.array_equal(one.reference, other.reference)
    later = replace(bench.segments[0], start=bench.segments[0].start + 0.5)
    assert np.array_equal(spy.eeg[0][0].numpy(), store.cut_eeg(later))
    assert not torch.equal(spy.eeg[0], plain.eeg[0])
    learn = examples_of(Conditions(delay=0.5), store, split, DEMO)[0]
    batch = next(iter(learn.loader([Segment(split.parts["train"][0].trial, 2.0, 2.0)], 1)))
    later = Segment(split.parts["train"][0].trial, 2.5, 2.0)
    assert np.array_equal(batch.eeg[0].numpy(), store.cut_eeg(later))


# Windows


@pytest.mark.parametrize(("seconds", "pieces"), [(1.0, 4), (2.0, 2), (4.0, 1), (1.5, 3)])
def test_short_windows_stand_side_by_side_and_are_joined(
    store: Store, split: Split, seconds: float, pieces: int
) -> None:
    spy, test, bench = asked(store, split, Conditions(window=seconds))
    assert spy.context.segment_seconds == seconds
    mixer = Mixer(store)
    for segment, found in zip(bench.segments, signals(test), strict=True):
        scene = mixer.scene(segment)
        assert np.array_equal(found.estimate, scene.mixture) and np.array_equal(found.reference, scene.target)
    batches = -(-len(bench.segments) // 8)
    assert len(spy.eeg) == pieces * batches
    assert {eeg.shape[-1] for eeg in spy.eeg} == {round(seconds * EEG_RATE)}
    assert {mixture.shape[-1] for mixture in spy.mixtures} == {round(seconds * AUDIO_RATE)}


@pytest.mark.parametrize("control", ["true_eeg", "noise_cue"])
def test_short_windows_have_the_eeg_of_their_segment(store: Store, split: Split, control: str) -> None:
    spy, test, bench = asked(store, split, Conditions(window=1.0))
    signals(test, control)
    first = torch.cat([eeg[0] for eeg in spy.eeg[:4]], -1).numpy()
    segment = bench.segments[0]
    assert np.array_equal(first, controlled_eeg(control, store.cut_eeg(segment), store, segment, 0))


def test_a_long_window_stands_around_its_segment(store: Store, split: Split) -> None:
    spy, test, bench = asked(store, split, Conditions(window=8.0))
    mixer, windows = Mixer(store), Windows.of(8.0, split, EEG_RATE, AUDIO_RATE)
    found = signals(test)
    for number, (segment, one) in enumerate(zip(bench.segments, found, strict=True)):
        around = windows.around(segment)
        assert around.duration == 8 and 0 <= around.start <= segment.start
        assert segment.start + 4 <= around.start + 8 <= TRIAL_SECONDS
        assert np.array_equal(spy.eeg[number // 8][number % 8].numpy(), store.cut_eeg(around))
        assert np.array_equal(one.estimate, mixer.scene(segment).mixture)
        assert np.array_equal(one.interferer, mixer.scene(segment).interferer)
    assert Windows.of(8.0, split, EEG_RATE, AUDIO_RATE).around(replace(bench.segments[0], start=4.0)).start == 2.0


def test_a_long_window_keeps_to_the_test_part_of_a_trial(store: Store) -> None:
    within = make_split(store.index, "within_trial")
    span = within.parts["test"][0]
    segment = Segment(span.trial, span.start, 1.0)
    around = Windows.of(2.0, within, EEG_RATE, AUDIO_RATE).around(segment)
    assert (around.start, around.duration) == (span.start, 2.0)
    with pytest.raises(BadInput, match=r"conditions\.window: expected a stretch of at least 8 s, found 2\.\d+ s"):
        Windows.of(8.0, within, EEG_RATE, AUDIO_RATE).around(segment)
    with pytest.raises(BadInput, match="within the test part"):
        Windows.of(8.0, within, EEG_RATE, AUDIO_RATE).around(Segment(span.trial, 0.0, 1.0))


def test_scores_in_windows_are_of_the_same_segments(store: Store, split: Split) -> None:
    frames = [asked(store, split, Conditions(window=w))[1].scores("true_eeg", ("si_sdr",)) for w in (None, 1.0, 8.0)]
    for frame in frames[1:]:
        pd.testing.assert_frame_equal(frame, frames[0])
        assert paired_difference(frames[0], frame, "si_sdr", resamples=10).mean == 0


def test_training_windows_have_the_length_whatever_is_asked_for(store: Store, split: Split) -> None:
    for part in examples_of(Conditions(window=1.0), store, split, DEMO):
        drawn = part.random(2.0, 5, 0, 0) + part.fixed(4.0, 10)
        assert {segment.duration for segment in drawn} == {1.0}
        assert next(iter(part.loader(drawn, 5))).mixture.shape == (5, AUDIO_RATE)


# Noise in training


def test_noise_is_in_about_its_share_of_the_windows(store: Store, split: Split) -> None:
    learn, check = examples_of(Conditions(noise_share=0.25), store, split, DEMO)
    drawn = learn.random(2.0, 2000, 3, 1)
    count = sum(isinstance(segment, NoisySegment) for segment in drawn)
    assert 0.2 < count / 2000 < 0.3
    assert drawn == learn.random(2.0, 2000, 3, 1) and drawn != learn.random(2.0, 2000, 4, 1)
    assert not any(isinstance(segment, NoisySegment) for segment in check.random(2.0, 100, 3, 1) + learn.fixed(2.0, 99))
    plain = examples_of(Conditions(), store, split, DEMO)[0].random(2.0, 2000, 3, 1)
    assert [(s.trial, s.start, s.duration) for s in drawn] == [(s.trial, s.start, s.duration) for s in plain]


def test_windows_that_are_noisy_stay_so_at_a_larger_share(store: Store, split: Split) -> None:
    plain = examples_of(Conditions(), store, split, DEMO)[0].random(2.0, 200, 0, 0)
    some, more, every = ({s for s in noisy(plain, p, (0, 0)) if isinstance(s, NoisySegment)} for p in (0.25, 0.5, 1.0))
    assert some < more < every and len(every) == 200 and len({segment.seed for segment in every}) > 190


def test_noisy_windows_have_what_the_control_gives(store: Store, split: Split) -> None:
    conditions = Conditions(noise_share=0.5, channels=4)
    learn = examples_of(conditions, store, split, DEMO)[0]
    segments = learn.random(2.0, 12, 0, 0)
    view, mixer = view_of(conditions, store), Mixer(store)
    batch = next(iter(learn.loader(segments, 12)))
    for number, segment in enumerate(segments):
        plain = Segment(segment.trial, segment.start, segment.duration)
        true, found = view.cut_eeg(plain), batch.eeg[number].numpy()
        noise = isinstance(segment, NoisySegment)
        wanted = controlled_eeg("noise_cue", true, view, plain, segment.seed) if noise else true
        assert np.array_equal(found, wanted)
        assert np.array_equal(batch.target[number].numpy(), mixer.scene(plain).target)
    assert {type(segment) for segment in segments} == {Segment, NoisySegment}


def test_noise_reaches_methods_that_learn_from_whole_trials(store: Store, split: Split) -> None:
    half = [scene.eeg for _, scene in examples_of(Conditions(noise_share=0.5), store, split, DEMO)[0].scenes()]
    plain = [scene.eeg for _, scene in examples_of(Conditions(), store, split, DEMO)[0].scenes()]
    same = [np.array_equal(one, other) for one, other in zip(half, plain, strict=True)]
    assert any(same) and not all(same)


def test_noise_needs_a_view(store: Store, split: Split) -> None:
    with pytest.raises(BadInput, match="noise_share: expected 0, or a View"):
        Examples(store, split.parts["train"], Mixer(store), noise_share=0.5)


# Shares of the data


def test_less_data_is_within_more_and_the_rest_stays(store: Store, split: Split) -> None:
    spans = split.parts["train"]
    shares = [set(some_trials(spans, store, share, 0)) for share in (0.01, 0.25, 0.5, 1.0)]
    assert [len(share) for share in shares] == [1, round(len(spans) / 4), round(len(spans) / 2), len(spans)]
    assert all(fewer < more for fewer, more in zip(shares, shares[1:], strict=False))
    assert set(some_trials(spans[::-1], store, 0.5, 0)) == shares[2]
    assert set(some_trials(spans, store, 0.5, 1)) != shares[2]
    learn, check = examples_of(Conditions(train_share=0.5), store, split, DEMO)
    assert set(learn.spans) == shares[2] and check.spans == split.parts["valid"]


# What is shared, and what is written


@pytest.mark.parametrize("given", [{"channels": 8}, {"delay": 0.1}, {"noise_share": 0.5}])
def test_what_is_heard_is_the_same_where_the_eeg_alone_differs(
    store: Store, split: Split, given: dict[str, Any]
) -> None:
    plain, other = (examples_of(Conditions(**more), store, split, DEMO)[0] for more in ({}, given))
    assert other.audio_key == plain.audio_key and other.key != plain.key


@pytest.mark.parametrize("given", [{"window": 1.0}, {"train_share": 0.5}])
def test_what_is_heard_differs_with_the_sound(store: Store, split: Split, given: dict[str, Any]) -> None:
    plain, other = (examples_of(Conditions(**more), store, split, DEMO)[0] for more in ({}, given))
    assert other.audio_key != plain.audio_key and other.key != plain.key


def test_without_conditions_names_and_declarations_are_as_they_were(store: Store, split: Split) -> None:
    learn = examples_of(Conditions(), store, split, DEMO)[0]
    heard = [(store.trial(s.trial), s) for s in split.parts["train"]]
    text = repr([(t.attended, t.unattended, s.start, s.stop, 0.0) for t, s in heard])
    audio = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert learn.audio_key == audio and learn.store is store
    assert learn.key == hashlib.sha256(f"{store.index.revision} {audio}".encode()).hexdigest()[:16]
    for entry in ("dprnn", {"system": "dprnn", "conditions": {}}, {"system": "dprnn", "conditions": {"delay": 0}}):
        assert set(recorded(declare(entry), "hour")) == {"system", "version", "settings", "budget", "steps"}
    _, test, bench = asked(store, split, Conditions())
    assert type(test) is ExtractionTest and test.mixer is bench.mixer


def test_conditions_are_recorded_where_there_are_any() -> None:
    told = {"channels": 8, "window": 2, "delay": 0.0}
    found = recorded(declare({"system": "dprnn", "conditions": told}), "hour")
    assert found["conditions"] == {"channels": 8, "window": 2.0}


def options(folder: Path, shared: Path) -> RunOptions:
    return RunOptions(folder, shared, device="cpu", precision="32-true", progress=False)


def test_separators_are_shared_where_the_same_is_heard(store: Store, split: Split, tmp_path: Path) -> None:
    counts = []
    for number, given in enumerate(({"channels": 4}, {"noise_share": 1.0}, {"window": 1.0})):
        entry = {"system": "dprnn", "steps": 1, "conditions": given}
        place = options(tmp_path / str(number), tmp_path / "shared")
        train(declare(entry), store, split, DEMO, Budget("demo", 1), place)
        counts.append(len([*(tmp_path / "shared").glob("*/weights.safetensors")]))
    assert counts == [1, 1, 2]


def test_the_whole_way_under_all_conditions(
    small_root: Path, store: Store, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"channels": 4, "delay": 0.1, "window": 2.0, "noise_share": 0.5, "train_share": 0.5}
    systems: list[Any] = [{"system": "dprnn", "name": "dprnn-few", "steps": 1, "conditions": given}]
    suite = Suite(name="t", studies=[str(small_root)], splits=["trial"], controls=["noise_cue"], systems=systems)
    records = run_suite(suite, tmp_path, QUIET, lambda line: None, tmp_path / "elsewhere")
    found = {record.control: record for record in records.read_all()}
    assert records.root == tmp_path / "elsewhere" and set(found) == {"true_eeg", "noise_cue"}
    assert found["true_eeg"].system.declaration["conditions"] == given
    lines: list[str] = []
    run_suite(suite, tmp_path, QUIET, lines.append, tmp_path / "elsewhere")
    assert lines[0] == "1 of 1 systems are done; 0 to go" and "trained" not in " ".join(lines)

    path = next(tmp_path.rglob("system.safetensors"))
    about = load_weights(path)[1]
    assert about["conditions"] == given and len(about["sensors"]) == 4
    again = eeg2speech.evaluate("dprnn", store, "trial", ["true_eeg"], checkpoint=path)
    kept = RecordStore(records.root).scores(found["true_eeg"])
    pd.testing.assert_series_equal(again.scores["true_eeg"]["si_sdr"], kept["si_sdr"])

    plain = declare({"system": "dprnn", "conditions": given | {"delay": 0.2}})
    with pytest.raises(BadInput, match=r'conditions: expected .*"delay": 0\.2.*, found .*"delay": 0\.1'):
        load(path, plain, store, DEMO)
    monkeypatch.setattr(trained_module, "SHIPPED", tmp_path / "shipped")
    with pytest.raises(BadInput, match="conditions: expected none, to be shipped"):
        ship(path)
    other = suite.model_copy(update={"systems": [systems[0] | {"conditions": {"channels": 4}}]})
    with pytest.raises(BadInput, match=r"system: expected .*'conditions': \{'channels': 4\}"):
        run_suite(other, tmp_path, QUIET, lambda line: None, tmp_path / "elsewhere")


# Other tasks


def test_retrieval_is_asked_with_the_chosen_electrodes(store: Store, split: Split) -> None:
    spy, test, bench = asked(store, split, Conditions(channels=4, delay=0.25), "demo-retrieval-1")
    test.scores("true_eeg", ("top1",))
    rows, segment = spread(store.index.sensors, 4), bench.segments[0]
    later = replace(segment, start=segment.start + 0.25)
    assert np.array_equal(spy.eeg[0][0].numpy(), store.cut_eeg(later)[rows])
    assert test.candidates.reference == bench.candidates.reference


def test_features_are_learned_with_the_chosen_electrodes(store: Store, split: Split) -> None:
    class Cache:
        features = type("Features", (), {"fingerprint": "f", "rate": 1, "frames": staticmethod(lambda samples: 1)})()

        def of(self, wave: Any) -> Any:
            return np.zeros((1, 1), np.float16)

    learn = examples_of(Conditions(channels=4, train_share=0.5), store, split, protocol("demo-retrieval-1"))[0]
    source = FeatureExamples(learn, Cache(), whole=False)  # type: ignore[arg-type]
    assert source.item(source.random(3.0, 1, 0, 0)[0])["eeg"].shape == (4, 3 * EEG_RATE)


@pytest.mark.parametrize("label", ["demo-retrieval-1", "demo-generation-1"])
@pytest.mark.parametrize("given", [{"window": 2.0}, {"noise_share": 0.5}])
def test_conditions_that_a_task_does_not_know_are_refused(
    store: Store, split: Split, label: str, given: dict[str, float]
) -> None:
    task = protocol(label).task
    message = rf"conditions\.{next(iter(given))}: expected the task extraction, found {task}: "
    with pytest.raises(BadInput, match=message):
        asked(store, split, Conditions(**given), label)  # type: ignore[arg-type]
    declaration = declare({"system": "ridge_mel", "conditions": given})
    with pytest.raises(BadInput, match=message):
        train(declaration, store, split, protocol(label), Budget(), RunOptions(Path("/nowhere")))


# Refusals


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chanels": 4}, r"conditions of 'dprnn': key: .*'chanels' \(did you mean 'channels'\?\)"),
        ({"channels": 0}, "channels: expected .*greater than or equal to 1, found 0"),
        ({"window": 0}, "window: expected .*greater than or equal to 0.1"),
        ({"window": -1}, "window: expected .*greater than or equal to 0.1"),
        ({"delay": float("nan")}, "delay: expected .*finite"),
        ({"noise_share": 1.5}, "noise_share: expected .*less than or equal to 1"),
        ({"train_share": 0}, "train_share: expected .*greater than 0"),
    ],
)
def test_conditions_that_mean_nothing_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        declare({"system": "dprnn", "conditions": given})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("conditions: {chanels: 4}", "did you mean 'channels'"),
        ("conditions: [channels]", "conditions: expected "),
        ("name: own, conditions: {window: 2}, steps: 1}\nexamples: 2\n#", r"examples: expected 0 .*, found 2"),
        ("conditions: {window: 2}", "name: expected a name of its own"),
        (
            "name: own, conditions: {delay: 0.1}}\nsplits: [within_trial]\n#",
            "conditions.delay: expected splits by trial",
        ),
    ],
)
def test_a_suite_with_conditions_that_cannot_be_is_refused(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        f"name: t\nstudies: [simulated-clear]\nsplits: [trial]\nsystems: \n  - {{system: dprnn, {change}}}\n"
    )
    with pytest.raises(BadInput, match=message):
        read_suite(path)
    path.write_text(path.read_text().replace("dprnn", "brain_encoder").replace(change, "conditions: {window: 2}"))
    with pytest.raises(BadInput, match=r"brain_encoder'.*conditions\.window: expected the task extraction"):
        read_suite_of(path, "demo-retrieval-1")


def read_suite_of(path: Path, label: str) -> Suite:
    path.write_text(f"protocol: {label}\n{path.read_text().partition('examples')[0]}")
    return read_suite(path)
