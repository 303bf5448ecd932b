from dataclasses import replace
from pathlib import Path

import pytest
import torch
from eeg2speech_baselines.dprnn import SIZES, Dprnn, DprnnBlind, DprnnSeparator, ExtractionSettings
from eeg2speech_baselines.floors import SubjectIdOracle
from eeg2speech_baselines.mtrf_select import MtrfSelectTrueSources
from torch import Tensor

from eeg2speech.data import Sensors, Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.errors import BadInput
from eeg2speech.models.dual_path import overlap_add, segment
from eeg2speech.models.masking import negative_si_sdr
from eeg2speech.splits import make_split
from eeg2speech.systems.interface import Context, Facts, NoSettings, System, answer, embedded, generated
from eeg2speech.systems.registry import build, declare, system_class, system_names
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.checkpoint import load_weights, save_weights
from eeg2speech.training.examples import Batch, Examples

LEARNED = {"dprnn": Dprnn, "dprnn_blind": DprnnBlind, "dprnn_separator": DprnnSeparator}


@pytest.fixture(scope="module")
def context(store: Store) -> Context:
    return Context.of(store, 4.0)


@pytest.fixture(scope="module")
def batch(store: Store) -> Batch:
    examples = Examples(store, make_split(store.index, "trial").parts["train"], Mixer(store))
    made: Batch = next(iter(examples.loader(examples.random(2.0, 3, 0, 0), 3)))  # type: ignore[assignment]
    return made


def sources(batch: Batch) -> Tensor:
    return torch.stack([batch.target, batch.interferer], 1)


def network(cls: type, context: Context) -> System:
    torch.manual_seed(0)
    made: System = cls(context, ExtractionSettings())
    if made.facts.uses_eeg:
        # FiLM starts as the identity; a trained network's does not stay there.
        for film in made.network.fusion:  # type: ignore[attr-defined]
            torch.nn.init.normal_(film.affine.weight, std=0.3)
        for film in made.network.match:  # type: ignore[attr-defined]
            torch.nn.init.normal_(film.affine[-1].weight, std=0.3)
    made.network.eval()  # type: ignore[attr-defined]
    return made


def asked(system: System, batch: Batch) -> list[Tensor]:
    """What a system answers to every task that it says it answers."""
    found = []
    if "extraction" in system.facts.tasks:
        found.append(answer(system, batch.mixture, batch.eeg, batch.subject, sources(batch)))
        assert found[-1].shape == batch.mixture.shape
    if "retrieval" in system.facts.tasks:
        found += [embedded(system, batch.eeg, batch.subject), system.embed_speech(batch.target).float()]
        assert found[-1].shape == found[-2].shape
    if "generation" in system.facts.tasks:
        generators = [torch.Generator().manual_seed(k) for k in range(len(batch))]
        found.append(generated(system, batch.eeg, batch.subject, generators, batch.target))
        assert found[-1].shape == batch.target.shape
    assert found and all(torch.isfinite(part).all() for part in found)
    return found


@pytest.mark.parametrize("name", system_names())
def test_every_registered_system_learns_and_answers_its_tasks_and_again_from_its_state(
    name: str, store: Store, context: Context, tmp_path: Path, shared: Path
) -> None:
    split = make_split(store.index, "trial")
    train, valid = (Examples(store, split.parts[part], Mixer(store)) for part in ("train", "valid"))
    batch: Batch = next(iter(train.loader(train.random(context.segment_seconds, 2, 0, 0), 2)))  # type: ignore[assignment]
    system = build(declare(name), context)
    system.fit(train, valid, Budget(steps=1), RunOptions(tmp_path, shared, progress=False))
    assert system.facts.title and system.facts.licence and system.facts.source
    again = build(declare(name), context)
    again.load_state(system.state())
    for one, other in zip(asked(system, batch), asked(again, batch), strict=True):
        torch.testing.assert_close(one, other)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize("cls", LEARNED.values(), ids=LEARNED.keys())
def test_an_answer_does_not_depend_on_its_batch(cls: type, context: Context, batch: Batch) -> None:
    system = network(cls, context)
    whole = answer(system, batch.mixture, batch.eeg, batch.subject, sources(batch))
    turned = answer(system, batch.mixture.flip(0), batch.eeg.flip(0), batch.subject.flip(0), sources(batch).flip(0))
    alone = [
        answer(system, *(x[k : k + 1] for x in (batch.mixture, batch.eeg, batch.subject, sources(batch))))
        for k in range(3)
    ]
    torch.testing.assert_close(turned.flip(0), whole, atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat(alone), whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("cls", LEARNED.values(), ids=LEARNED.keys())
def test_loudness_scales_the_answer(cls: type, context: Context, batch: Batch) -> None:
    system = network(cls, context)
    soft = answer(system, 0.01 * batch.mixture, batch.eeg, batch.subject, sources(batch))
    loud = answer(system, batch.mixture, batch.eeg, batch.subject, sources(batch))
    torch.testing.assert_close(100 * soft, loud, atol=1e-4, rtol=1e-3)


def test_gradients_reach_the_eeg_and_every_parameter(context: Context, batch: Batch) -> None:
    system = network(Dprnn, context)
    eeg = batch.eeg.clone().requires_grad_()
    losses = system.loss(replace(batch, eeg=eeg))  # type: ignore[attr-defined]
    negative_si_sdr(batch.target, system.network(batch.mixture, eeg)[0][:, 0]).mean().backward()  # type: ignore[attr-defined]
    assert eeg.grad is not None and eeg.grad.abs().max() > 0
    system.network.zero_grad()  # type: ignore[attr-defined]
    losses["loss"].backward()
    idle = [n for n, p in system.network.named_parameters() if p.grad is None or not p.grad.abs().any()]  # type: ignore[attr-defined]
    assert not idle


def test_the_answer_follows_the_eeg_where_it_is_used_and_only_there(context: Context, batch: Batch) -> None:
    other = torch.randn(batch.eeg.shape, generator=torch.Generator().manual_seed(0))
    for cls, changes in ((Dprnn, True), (DprnnBlind, False)):
        system = network(cls, context)
        pair = [answer(system, batch.mixture, eeg, batch.subject, sources(batch)) for eeg in (batch.eeg, other)]
        assert torch.equal(*pair) != changes


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.1])
@pytest.mark.parametrize("sensors", [1, 14])
def test_any_length_and_number_of_electrodes(context: Context, seconds: float, sensors: int) -> None:
    few = replace(context, sensors=Sensors(context.sensors.names[:sensors], context.sensors.positions[:sensors]))
    system = network(Dprnn, few)
    mixture = torch.randn(2, round(16_000 * seconds))
    eeg = torch.randn(2, sensors, round(128 * seconds))
    assert system.extract(mixture, eeg, torch.zeros(2)).shape == mixture.shape


def test_the_papers_size_builds_and_takes_a_step(context: Context) -> None:
    system = Dprnn(context, ExtractionSettings(size="paper"))
    eeg, wave = torch.randn(1, 64, 32), torch.randn(1, 4000)
    batch = Batch(wave, wave.flip(-1), wave - wave.flip(-1), eeg, torch.zeros(1))
    system.loss(batch)["loss"].backward()
    # 2.6 M are published for the separator without EEG.
    blind = DprnnBlind(context, ExtractionSettings(size="paper"))
    assert 2.4e6 < blind.parameters < 2.9e6


def test_shipped_sizes_fit_two_megabytes_in_half_precision(context: Context) -> None:
    assert SIZES["demo"]
    for cls in LEARNED.values():
        assert cls(context, ExtractionSettings()).parameters * 2 < 2e6


def test_segmentation_and_overlap_add_are_inverse() -> None:
    for length in (1, 7, 49, 50, 51, 333):
        x = torch.randn(2, 3, length)
        chunks, found = segment(x, 50)
        assert chunks.shape[2] == 50
        torch.testing.assert_close(overlap_add(chunks, found), x)


class Spy(System):
    facts = Facts("spy", "MIT", "test", uses_eeg=False, uses_subject=False)

    def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
        self.seen = (eeg, subject)
        return mixture


def test_a_system_is_given_what_it_declares_and_nothing_else(context: Context, batch: Batch) -> None:
    spy = Spy(context, NoSettings())
    answer(spy, batch.mixture, batch.eeg, batch.subject + 1, sources(batch))
    assert not spy.seen[0].any() and not spy.seen[1].any()
    spy.facts = replace(Spy.facts, uses_eeg=True, uses_subject=True)  # type: ignore[misc]
    answer(spy, batch.mixture, batch.eeg, batch.subject + 1, sources(batch))
    assert torch.equal(spy.seen[0], batch.eeg) and spy.seen[1].all()


def test_an_answer_of_another_shape_is_refused(context: Context, batch: Batch) -> None:
    class Short(Spy):
        def extract(self, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
            return mixture[:, :-1]

    with pytest.raises(BadInput, match=r"Short: estimate: expected a tensor \[3, 32000\], found \[3, 31999\]"):
        answer(Short(context, NoSettings()), batch.mixture, batch.eeg, batch.subject, sources(batch))


def test_unknown_systems_keys_and_settings_are_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="did you mean 'dprnn'"):
        system_class("dprn")
    with pytest.raises(BadInput, match="did you mean 'settings'"):
        declare({"system": "dprnn", "setings": {}})
    with pytest.raises(BadInput, match="did you mean 'envelope_weight'"):
        build(declare({"system": "dprnn", "settings": {"envelop_weight": 1}}), None)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="size: expected Input should be 'demo' or 'paper', found 'huge'"):
        build(declare({"system": "dprnn", "settings": {"size": "huge"}}), None)  # type: ignore[arg-type]


def test_a_checkpoint_of_another_system_is_refused(context: Context, tmp_path: Path) -> None:
    state = DprnnBlind(context, ExtractionSettings()).state()
    with pytest.raises(BadInput, match="Dprnn: tensors: expected those of this system, found missing"):
        Dprnn(context, ExtractionSettings()).load_state(state)
    with pytest.raises(BadInput, match="expected those of a backward model"):
        MtrfSelectTrueSources(context, NoSettings()).load_state(state)
    path = tmp_path / "w.safetensors"
    save_weights(path, state, {"system": "dprnn_blind"}, half=True)
    again, about = load_weights(path)
    assert about == {"system": "dprnn_blind"}
    torch.testing.assert_close(again["mask.1.weight"], state["mask.1.weight"], atol=1e-3, rtol=1e-3)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadInput, match="a file that is damaged or not one"):
        load_weights(path)


def test_subject_id_oracle_is_right_where_the_subject_decides_and_a_coin_where_not(
    confounded: Store, store: Store, tmp_path: Path
) -> None:
    right = {}
    for study in (confounded, store):
        split = make_split(study.index, "trial")
        train, test = (Examples(study, split.parts[part], Mixer(study)) for part in ("train", "test"))
        oracle = SubjectIdOracle(Context.of(study, 4.0), NoSettings())
        oracle.fit(train, test, Budget(), RunOptions(tmp_path))
        numbers = {name: k for k, name in enumerate(study.subjects)}
        hits = []
        for subject, scene in test.scenes():
            trial = study.trial(scene.segment.trial)
            target_first = study.speakers[trial.attended] < study.speakers[str(trial.unattended)]
            pair = (scene.target, scene.interferer) if target_first else (scene.interferer, scene.target)
            given = torch.stack([torch.from_numpy(s) for s in pair]).unsqueeze(0)
            found = oracle.extract_from(given[:, 0], given[:, 0], torch.tensor([numbers[subject]]), given)
            hits.append(torch.equal(found[0], torch.from_numpy(scene.target)))
        right[study is confounded] = sum(hits) / len(hits)
    assert right[True] == 1.0 > right[False]
