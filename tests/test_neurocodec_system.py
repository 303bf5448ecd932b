"""NeuroCodec as a system: trained with all it has, frozen where it says so, resumed to the bit, refusing what is not
its own."""

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from eeg2speech.assets.pretraining import heard
from eeg2speech.data import Store
from eeg2speech.data.mixing import Mixer
from eeg2speech.data.studies.simulated import corpus_range
from eeg2speech.errors import BadInput
from eeg2speech.evaluation.protocol import protocol
from eeg2speech.evaluation.trained import Trained, load, train
from eeg2speech.models.neurocodec import Prediction, Sizes
from eeg2speech.splits import make_split
from eeg2speech.systems import neurocodec
from eeg2speech.systems.codecs import load_codec
from eeg2speech.systems.interface import Context, System, answer
from eeg2speech.systems.neurocodec import NeuroCodec, NeuroCodecSeparator
from eeg2speech.systems.registry import build, declare
from eeg2speech.training import codec as codec_training
from eeg2speech.training.budget import Budget, RunOptions
from eeg2speech.training.checkpoint import load_weights, save_weights
from eeg2speech.training.codec import CodecSettings
from eeg2speech.training.examples import Examples
from eeg2speech.training.latents import LatentBatch

TINY = CodecSettings(encoder_hidden_size=4, decoder_hidden_size=32, n_codebooks=2, codebook_size=16, codebook_dim=4)
STEPS = 4


@dataclass(frozen=True)
class Bench:
    """Where this module's files are: the codec, another one, one of another rate; what trainings may share."""

    codec: Path
    other: Path
    slow: Path
    shared: Path


def write_codec(path: Path, settings: CodecSettings = TINY, seed: int = 0, **about: Any) -> Path:
    """A codec's file with random weights, as a training writes it."""
    sizes = asdict(settings) | {"downsampling_ratios": list(settings.downsampling_ratios)}
    state = codec_training.build(settings, seed).state_dict()
    save_weights(path, state, {"codec": sizes} | about, half=True)
    return path


@pytest.fixture(scope="module", autouse=True)
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The smallest system that has every part, with dropout: what it draws must come out the same after a kill."""
    root = tmp_path_factory.mktemp("neurocodec")
    small = replace(NeuroCodec.plan, batch=2, segment_seconds=1.0, epoch_steps=2, valid_segments=2)
    sizes = Sizes(width=16, blocks=1, heads=2, state=4, eeg_width=8, maps=2, dropout=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(neurocodec.SIZES, "demo", sizes)
        patch.setitem(neurocodec.JUDGES, "demo", 4)
        patch.setattr(NeuroCodec, "plan", small)
        patch.setattr(NeuroCodecSeparator, "plan", small)
        patch.setenv("EEG2SPEECH_CACHE", str(root / "cache"))
        yield Bench(
            write_codec(root / "codec.safetensors"),
            write_codec(root / "other.safetensors", seed=1),
            write_codec(root / "slow.safetensors", replace(TINY, sampling_rate=8000)),
            root / "shared",
        )


def declared(codec: Path, name: str = "neurocodec", **settings: Any) -> Any:
    return declare({"system": name, "settings": {"codec": str(codec), "adversarial_from": 0.5} | settings})


def trained_in(folder: Path, store: Store, bench: Bench, steps: int = STEPS, **settings: Any) -> Trained:
    options = RunOptions(folder, bench.shared, 0, "cpu", precision="32-true", progress=False)
    split = make_split(store.index, "stimulus")
    chosen = protocol("demo-1")
    return train(declared(bench.codec, **settings), store, split, chosen, Budget(steps=steps), options)


def built(store: Store, codec: Path, name: str = "neurocodec", **settings: Any) -> Any:
    return build(declared(codec, name, **settings), Context.of(store, 4.0))


@dataclass(frozen=True)
class Run:
    folder: Path
    trained: Trained
    codec_before: dict[str, Tensor]

    @property
    def file(self) -> Path:
        return self.folder / "system.safetensors"


@pytest.fixture(scope="module")
def run(store: Store, bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A training with every loss and part, half of it adversarial, that nobody disturbed."""
    before = {name: tensor.clone() for name, tensor in load_codec(bench.codec).state_dict().items()}
    folder = tmp_path_factory.mktemp("calm")
    return Run(folder, trained_in(folder, store, bench), before)


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, whatever is nested in what."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / f"{name}.ckpt", weights_only=True)
    return content


def recording(store: Store, seconds: float = 1.0, batch: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noise in place of mixture and EEG, and who listens."""
    draw = torch.Generator().manual_seed(seed)
    mixture = 0.07 * torch.randn(batch, round(16_000 * seconds), generator=draw)
    eeg = 10 * torch.randn(batch, len(store.index.sensors), round(128 * seconds), generator=draw)
    return mixture, eeg, torch.zeros(batch, dtype=torch.int64)


def asked(system: System, mixture: Tensor, eeg: Tensor, subject: Tensor) -> Tensor:
    return answer(system, mixture, eeg, subject, mixture[:, None].expand(-1, 2, -1))


# Training.


def test_every_loss_is_there_and_a_number(run: Run) -> None:
    training = run.trained.training
    assert training.steps == 2 * STEPS
    assert [point["step"] for point in training.curve] == [2.0, 4.0]
    names = {"step", *(f"valid/{name}" for name in ("loss", "latent", "mel", "si_sdr", "envelope"))}
    for point in training.curve:
        assert point.keys() == names and all(abs(value) < 1e4 for value in point.values())


def test_the_codec_is_frozen(run: Run, bench: Bench) -> None:
    """Not one of its numbers has moved or has been asked to, though gradients passed its decoder."""
    system: Any = run.trained.system
    codec = load_codec(bench.codec)
    assert system.codec is codec and same(dict(codec.state_dict()), run.codec_before)
    assert not any(module.training for module in codec.model.modules())
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in codec.parameters())
    system.network.train()
    assert not any(module.training for module in codec.model.modules())
    system.network.eval()
    mine = {id(tensor) for tensor in (*system.network.parameters(), *system.network.buffers())}
    assert not any(id(tensor) in mine for tensor in (*codec.parameters(), *codec.buffers()))


def test_everything_that_may_learn_has_learned(run: Run, store: Store, bench: Bench) -> None:
    """Guided layers begin where the training began; the separator's own began at its checkpoint."""
    separator = load_weights(next(bench.shared.rglob("weights.safetensors")))[0]
    after = load_weights(run.folder / "weights.safetensors")[0]
    moved = {name for name in separator.keys() & after.keys() if not torch.equal(separator[name], after[name])}
    assert {"spread.weight", "masks.weight", "blocks.0.mamba.A_log"} <= moved
    assert not moved & {"codec", "mean", "whiten", "colour", "lens", "level", "deviation"}
    for name in ("blocks.0.film.weight", "blocks.0.match.affine.2.weight"):
        assert after[name].abs().sum() > 0, name


def test_what_is_kept_holds_no_codec_and_what_is_shipped_no_discriminator(run: Run, bench: Bench) -> None:
    codec = load_codec(bench.codec).state_dict()
    names = {name.removeprefix("model.") for name in codec}
    for path in (run.file, run.folder / "weights.safetensors"):
        state = load_weights(path)[0]
        assert not any("judges" in name or "views" in name for name in state)
        assert not names & state.keys() and state["codec"].shape == (8,)
    own = load_weights(run.folder / "weights.safetensors")[0]
    for name in ("last", "best"):
        # Judges are kept here, for a training that goes on.
        found = checkpoint(run.folder, name)["state_dict"]
        assert {key.partition(".")[0] for key in found} == {"network", "judges"}
        assert {key.removeprefix("network.") for key in found if key.startswith("network.")} == own.keys()
    learned = {name for name, _ in run.trained.system.network.named_parameters()}  # type: ignore[attr-defined]
    assert (
        sum(own[name].numel() for name in learned)
        == run.trained.system.parameters
        < sum(map(torch.numel, own.values()))
    )
    assert not any("judges" in name for name in run.trained.system.state())


class Killed(Exception):
    pass


def test_a_killed_training_ends_in_the_same_bits(
    store: Store, bench: Bench, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its first epoch, and in the adversarial one: judges and their optimiser go on, too."""
    whole = NeuroCodec.loss
    for step in (1, 3):

        def loss(self: NeuroCodec, batch: Any, until: int = step) -> dict[str, Tensor]:
            if self.network.training and self._adversary is not None and self._adversary.step == until:
                raise Killed
            return whole(self, batch)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(NeuroCodec, "loss", loss)
            trained_in(tmp_path, store, bench)
        assert (tmp_path / "last.ckpt").exists() == (step == 3)
        torch.rand(3)
    resumed = trained_in(tmp_path, store, bench)
    assert same(resumed.system.state(), run.trained.system.state())
    assert resumed.training.curve == run.trained.training.curve
    one, other = (checkpoint(folder, "last") for folder in (run.folder, tmp_path))
    assert one["global_step"] == other["global_step"] == STEPS
    for name in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(one[name], other[name]), name
    assert len(one["optimizer_states"]) == 2 and all(states["state"] for states in one["optimizer_states"])
    assert not list(tmp_path.rglob("*.tmp"))


def test_judges_come_when_they_are_told_to(store: Store, bench: Bench) -> None:
    system = built(store, bench.codec)
    adversary = system.adversary(Budget(steps=STEPS))
    found = []
    for step in range(STEPS):
        adversary.step = step
        found.append(adversary.heard)
    assert found == [False, False, True, True]
    before = torch.get_rng_state()
    again = system.adversary(Budget(steps=STEPS))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(dict(adversary.judges.state_dict()), dict(again.judges.state_dict()))
    for settings in ({"lambda_adv": 0.0}, {"output": "codes"}):
        assert built(store, bench.codec, **settings).adversary(Budget(steps=STEPS)) is None


@pytest.mark.parametrize("output", ["latent_mse", "direction", "codes"])
def test_other_outputs_train_and_answer(store: Store, bench: Bench, tmp_path: Path, output: str) -> None:
    done = trained_in(tmp_path, store, bench, steps=1, output=output, adversarial_from=0.0)
    assert done.training.steps == 2
    sounds = output != "codes"
    assert ("valid/mel" in done.training.curve[-1], "valid/si_sdr" in done.training.curve[-1]) == (sounds, sounds)
    mixture, eeg, subject = recording(store)
    found = asked(done.system, mixture, eeg, subject)
    assert found.shape == mixture.shape and bool(found.isfinite().all()) and found.std() > 0
    if output == "codes":
        # Sound of codes alone: what is decoded is something that the codebooks can say.
        system: Any = done.system
        with torch.no_grad():
            latents = system.codec.encode(mixture)
            chosen = system.network.choose(system.network(latents, eeg), latents, system.codec)
            torch.testing.assert_close(system.codec.decode(chosen, mixture.shape[-1]), found)
        frame = chosen[0, :, 0]
        every = torch.cartesian_prod(torch.arange(16), torch.arange(16))
        sayable = system.codec.from_codes(every.T.unsqueeze(0))[0].T
        assert (sayable - frame).abs().amax(1).min() < 1e-5


def test_only_what_is_learned_from_is_remixed(store: Store, bench: Bench) -> None:
    part = Examples(store, make_split(store.index, "stimulus").parts["train"], Mixer(store))
    system = built(store, bench.codec, remix=0.3)
    assert (system.source(part).remix, system.source(part, learning=False).remix) == (0.3, 0.0)


# Answers.


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.5])
def test_an_answer_is_as_long_as_the_mixture_and_finite(run: Run, store: Store, seconds: float) -> None:
    mixture, eeg, subject = recording(store, seconds)
    found = asked(run.trained.system, mixture, eeg, subject)
    assert found.shape == mixture.shape and found.dtype == torch.float32
    assert bool(found.isfinite().all()) and found.std() > 0


def test_what_was_written_answers_the_same(run: Run, store: Store, bench: Bench) -> None:
    back = load(run.file, declared(bench.codec), store, protocol("demo-1"))
    inputs = recording(store)
    assert back.checkpoint_hash == run.trained.checkpoint_hash and back.training == run.trained.training
    assert torch.equal(asked(back.system, *inputs), asked(run.trained.system, *inputs))
    again = trained_in(run.folder, store, bench)
    assert torch.equal(asked(again.system, *inputs), asked(run.trained.system, *inputs))


def test_the_eeg_matters(run: Run, store: Store) -> None:
    mixture, eeg, subject = recording(store)
    found, other = (asked(run.trained.system, mixture, signal, subject) for signal in (eeg, eeg.flip(-1)))
    assert not torch.equal(found, other)


def test_blind_it_does_not(store: Store, bench: Bench) -> None:
    """Though it is handed the EEG here, past the harness that would replace it by zeros."""
    mixture, eeg, subject = recording(store)
    for name in ("neurocodec_blind", "neurocodec_separator"):
        system = built(store, bench.codec, name)
        system.network.eval()
        with torch.no_grad():
            found, other = (system.extract(mixture, signal, subject) for signal in (eeg, -3 * eeg))
        assert not system.facts.uses_eeg and torch.equal(found, other) and found.std() > 0


def test_facts_say_what_holds_for_the_settings(store: Store, bench: Bench) -> None:
    for name in ("neurocodec", "neurocodec_blind", "neurocodec_separator"):
        assert built(store, bench.codec, name).facts.causal
        assert not built(store, bench.codec, name, causal=False).facts.causal
        assert type(built(store, bench.codec, name)).facts.causal
    causal, free = (built(store, bench.codec, causal=c) for c in (True, False))
    assert causal.latency > causal.settings.look_ahead
    for use in (lambda: free.latency, free.stream):
        with pytest.raises(BadInput, match="causal"):
            use()


def test_what_the_codec_has_heard_the_system_has(store: Store, bench: Bench, tmp_path: Path) -> None:
    learned = write_codec(tmp_path / "learned.safetensors", seed=2, training={"corpus": "x"})
    expected = [heard(*corpus_range(stimulus)) for stimulus in store.index.stimuli]
    assert any(expected)
    for codec, verdicts in ((learned, expected), (bench.codec, [False] * len(expected))):
        system = built(store, codec)
        assert [system.heard_before(stimulus, store.facts) for stimulus in store.index.stimuli] == verdicts


# Refusals.


def test_eeg_of_another_duration_is_refused(run: Run, store: Store) -> None:
    mixture, eeg, subject = recording(store)
    for samples in (125, 131):
        near = torch.cat([eeg, eeg], -1)[..., :samples]
        with pytest.raises(BadInput, match=rf"eeg: expected 1\.000 s, as the audio .*, found {samples / 128:.3f} s"):
            asked(run.trained.system, mixture, near, subject)
    for samples in (126, 130):
        near = torch.cat([eeg, eeg], -1)[..., :samples]
        assert bool(asked(run.trained.system, mixture, near, subject).isfinite().all())


def test_another_number_of_electrodes_is_refused(run: Run, store: Store) -> None:
    mixture, eeg, subject = recording(store)
    sensors = len(store.index.sensors)
    with pytest.raises(BadInput, match=f"NeuroCodec: eeg: expected {sensors} channels, found {sensors - 1}"):
        asked(run.trained.system, mixture, eeg[:, 1:], subject)


def test_a_codec_of_another_rate_is_refused(store: Store, bench: Bench) -> None:
    with pytest.raises(BadInput, match=r"slow\.safetensors.*rate of the codec: expected 16000 Hz, found 8000 Hz"):
        built(store, bench.slow)


def test_weights_trained_with_another_codec_are_refused(run: Run, store: Store, bench: Bench, tmp_path: Path) -> None:
    fingerprints = [load_codec(path).fingerprint for path in (bench.other, bench.codec)]
    message = "NeuroCodec: codec: expected weights trained with codec {}, found {}".format(*fingerprints)
    with pytest.raises(BadInput, match=message):
        built(store, bench.other).load_state(run.trained.system.state())
    # Also where the name is the same, and the file under it another one.
    state, about = load_weights(run.file)
    path = tmp_path / "renamed.safetensors"
    save_weights(path, state, about | {"settings": about["settings"] | {"codec": str(bench.other)}}, half=True)
    with pytest.raises(BadInput, match=message):
        load(path, declared(bench.other), store, protocol("demo-1"))
    with pytest.raises(BadInput, match="settings: expected"):
        load(run.file, declared(bench.other), store, protocol("demo-1"))


def test_weights_of_another_network_are_refused(run: Run, store: Store, bench: Bench) -> None:
    state = run.trained.system.state()
    with pytest.raises(BadInput, match="tensors: expected those of this system, found missing"):
        built(store, bench.codec, output="codes").load_state(state)
    with pytest.raises(BadInput, match="tensors: expected those of this system, found missing"):
        built(store, bench.codec).load_state({n: t for n, t in state.items() if n != "codec"})


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.parametrize("name", ["system.pt", "system.safetensors"])
def test_a_pickled_checkpoint_is_refused_and_not_run(
    run: Run, store: Store, bench: Bench, tmp_path: Path, name: str
) -> None:
    marker, path = tmp_path / "was-run", tmp_path / name
    content = {"state": run.trained.system.state(), "also": Malicious(marker)}
    for write in (lambda: torch.save(content, path), lambda: path.write_bytes(pickle.dumps(content))):
        write()
        with pytest.raises(BadInput, match=rf"{name}: checkpoint: expected a safetensors file, found a file that is"):
            load(path, declared(bench.codec), store, protocol("demo-1"))
        path.rename(tmp_path / "codec.pt")
        with pytest.raises(BadInput, match=r"codec\.pt: codec: expected a \.safetensors file, a \.pth file or"):
            built(store, tmp_path / "codec.pt")
        assert not marker.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambda_mell": 1.0}, "'lambda_mell' .did you mean 'lambda_mel'"),
        ({"lookahead": 0.1}, "'lookahead' .did you mean 'look_ahead'"),
        ({"output": "code"}, "output: expected .*'codes'.*, found 'code'"),
        ({"activation": "gelu"}, "activation: expected .*'snake'.*, found 'gelu'"),
        ({"size": "large"}, "size: expected .*'demo'.*, found 'large'"),
        ({"look_ahead": -0.1}, "look_ahead: expected .*greater than or equal to 0, found -0.1"),
        ({"memory": 0.0}, "memory: expected .*greater than 0, found 0.0"),
        ({"adversarial_from": 1.5}, "adversarial_from: expected .*less than or equal to 1, found 1.5"),
    ],
)
def test_settings_that_do_not_exist_are_refused(
    store: Store, bench: Bench, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        built(store, bench.codec, **settings)


def test_a_codec_that_is_not_there_is_refused(store: Store, bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'demo'"):
        build(declare({"system": "neurocodec", "settings": {"codec": "demos"}}), Context.of(store, 4.0))
    cut = shutil.copy(bench.codec, tmp_path / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"cut\.safetensors: checkpoint: expected a safetensors file, found"):
        built(store, cut)


def test_discriminators_learn_on_one_device_only(store: Store, bench: Bench, tmp_path: Path) -> None:
    options = RunOptions(tmp_path, bench.shared, 0, "cpu", devices=2, precision="32-true", progress=False)
    split = make_split(store.index, "stimulus")
    with pytest.raises(BadInput, match="devices: expected 1 with discriminators"):
        train(declared(bench.codec), store, split, protocol("demo-1"), Budget(steps=STEPS), options)


@pytest.mark.parametrize("output", ["latent", "latent_mse", "direction"])
def test_the_loss_on_latents_is_least_for_the_talkers_themselves(store: Store, bench: Bench, output: str) -> None:
    """In the given order; in the other order it is the other number."""
    system = built(store, bench.codec, "neurocodec_separator", output=output, lambda_adv=0.0)
    latents = torch.randn(2, 3, system.codec.width, 9, generator=torch.Generator().manual_seed(0))
    waves = torch.zeros(2, 9 * system.codec.hop)
    batch = LatentBatch(waves, waves, waves, torch.zeros(2, 64, 23), torch.zeros(2, dtype=torch.int64), latents)
    truth = system.network.normalise(latents[:, 1:])
    right, crossed = (
        torch.stack(system._talkers_loss(Prediction(found, found, None, []), batch)) for found in (truth, truth.flip(1))
    )
    assert torch.equal(right, crossed.flip(0)) and bool((right[0] < right[1]).all())
    near = torch.stack(system._talkers_loss(Prediction(truth + 0.1, truth, None, []), batch))
    assert bool((right[0] < near[0]).all()) and bool((near[0] < near[1]).all())
    if output == "latent_mse":
        torch.testing.assert_close(near[0], torch.full((2,), 0.01), atol=1e-6, rtol=1e-4)
