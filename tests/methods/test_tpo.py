"""TPO: both answers under noise of the record's own."""

from dataclasses import replace

from scripted import EXAMPLES, Scripted

from harness.contracts.records import Beside, Dropped, Pair
from methods.tpo import Tpo


def noises(seed: int = 0, **options: int) -> dict[str, tuple[int, int]]:
    """Step and seed of each record's noise."""
    found = dict[str, tuple[int, int]]()
    for record in Tpo(**options).build(EXAMPLES, Scripted(seed=seed)):
        assert isinstance(record, Pair)
        one, other = record.beside
        assert one.noise and record.beside == (
            Beside(record.chosen, noise=one.noise),
            Beside(record.rejected, noise=one.noise),
        )
        assert other.crop is None
        found[record.id] = one.noise
    return found


def test_noise_is_the_record_s_by_the_comparison_s_seed() -> None:
    assert noises() == noises() != noises(seed=1)
    assert len({*noises().values()}) == len(EXAMPLES)
    assert {step for step, _ in noises(noise_step=800).values()} == {800}


def test_without_a_picture_there_is_nothing_to_add_noise_to() -> None:
    blind = replace(EXAMPLES[0], image=None)
    assert list(Tpo().build([blind], Scripted())) == [Dropped("one", "no picture to add noise to")]
