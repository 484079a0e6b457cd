"""The built-in domains: what is played, and on which instruments.

Training and test pieces are different works, and no work is heard in two domains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from training.humanise import Manner


@dataclass(frozen=True)
class Instrument:
    """A General MIDI program and the pitches it can play.

    It is chosen for lines whose median pitch is ``suits_from`` or more.
    """

    name: str
    program: int
    lowest: int
    highest: int
    suits_from: int = 0
    doubled_by: int | None = None
    """A second program that plays every note with it, more softly."""

    def reachable(self, pitch: int) -> int:
        """``pitch``, moved by octaves into the instrument's range."""
        while pitch < self.lowest:
            pitch += 12
        while pitch > self.highest:
            pitch -= 12
        return pitch


@dataclass(frozen=True)
class Recipe:
    """A built-in domain.

    Single lines are transposed to a median pitch drawn from ``solo_centre``.
    """

    name: str
    description: str
    instruments: tuple[Instrument, ...]
    manner: Manner
    solo_centre: tuple[float, float]
    train: tuple[str, ...]
    test: tuple[str, ...]

    def works(self, split: str) -> tuple[str, ...]:
        """Paths of a split's scores in the corpus."""
        return self.train if split == "train" else self.test


def instrument_for(instruments: Sequence[Instrument], pitches: Sequence[int]) -> Instrument:
    """The first of the instruments, from high to low, that suits the middle of the line."""
    centre = median(pitches)
    return next((one for one in instruments if centre >= one.suits_from), instruments[-1])


def _movements(work: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{work}/movement{number}.mxl" for number in numbers)


def _chorales(*numbers: str) -> tuple[str, ...]:
    return tuple(f"bach/bwv{number}.mxl" for number in numbers)


def _trecento(*names: str) -> tuple[str, ...]:
    return tuple(f"trecento/PMFC_06_{name}.xml" for name in names)


HARPSICHORD = Recipe(
    name="harpsichord",
    description="Harpsichord: single lines, pairs of lines, chorales and quartets.",
    instruments=(Instrument("harpsichord", 6, 29, 89),),
    manner=Manner(articulation=(0.75, 0.97), swell=0.0, accent=0.0, jitter_s=0.005, velocity=90.0),
    solo_centre=(50.0, 80.0),
    train=(
        *_movements("mozart/k156", 1, 2, 3, 4),
        *_movements("mozart/k155", 1, 2, 3),
        "mozart/k545/movement1_exposition.mxl",
        *_movements("beethoven/opus59no3", 3, 4),
        *_chorales("101.7", "102.7", "103.6", "104.6", "108.6", "11.6"),
    ),
    test=("cpebach/h186.mxl", "corelli/opus3no1/1grave.xml", "bach/bwv846.mxl"),
)

STRINGS = Recipe(
    name="strings",
    description="Solo strings, violin to cello: single lines, duos and quartets.",
    instruments=(
        Instrument("violin", 40, 55, 100, suits_from=62),
        Instrument("viola", 41, 48, 88, suits_from=54),
        Instrument("cello", 42, 36, 76),
    ),
    manner=Manner(articulation=(0.92, 1.0), swell=11.0),
    solo_centre=(48.0, 84.0),
    train=(
        *_movements("haydn/opus74no1", 1, 2, 3, 4),
        *_movements("beethoven/opus18no1", 1, 2, 3),
        *_movements("beethoven/opus59no1", 1, 3),
        *_chorales("110.7", "111.6", "112.5", "10.7", "113.8", "114.7"),
    ),
    test=_movements("haydn/opus1no1", 1, 3),
)

WOODWIND = Recipe(
    name="woodwind",
    description="Flute, oboe, clarinet and bassoon: single lines, duos and small ensembles.",
    instruments=(
        Instrument("flute", 73, 60, 98, suits_from=71),
        Instrument("oboe", 68, 58, 91, suits_from=64),
        Instrument("clarinet", 71, 50, 91, suits_from=56),
        Instrument("bassoon", 70, 34, 75),
    ),
    manner=Manner(articulation=(0.85, 0.98), swell=10.0),
    solo_centre=(50.0, 86.0),
    train=(
        *_trecento(
            "Giovanni-01-Angnel_son_biancho",
            "Giovanni-02-Apress_un_fiume_a",
            "Giovanni-03-Chon_brachi_assai",
            "Giovanni-04_De_Come_Dolce_Mente",
            "Giovanni-05_Donna_Gia_Fu_Leggiadra",
            "Giovanni-06_Fra_Mille_Corvi",
            "Giovanni-07_In_Sulla_Ripa",
        ),
        *_movements("mozart/k80", 1, 2, 3, 4),
        *_movements("beethoven/opus59no2", 1, 3),
        *_chorales("116.6", "117.4", "119.9", "12.7", "120.6", "121.6"),
    ),
    test=(*_trecento("Piero_2-Chavalcando"), "mozart/k458/movement2.mxl"),
)

PIANO = Recipe(
    name="piano",
    description="Grand piano: single lines, pairs of lines, dances and quartets.",
    instruments=(Instrument("piano", 0, 24, 103),),
    manner=Manner(articulation=(0.8, 1.0), swell=14.0, accent=7.0, jitter_s=0.008),
    solo_centre=(46.0, 86.0),
    train=(
        *(f"schumann_clara/polonaise_op1n{number}.mxl" for number in (1, 2, 3)),
        "joplin/maple_leaf_rag.mxl",
        *_movements("mozart/k458", 1, 3, 4),
        *_movements("schumann_robert/opus41no1", 1, 2),
        *_movements("beethoven/opus59no1", 2, 4),
        "beethoven/opus18no3.mxl",
        "beethoven/opus132.mxl",
        *_chorales("122.6", "14.5", "16.6", "17.7", "18.5-lz", "19.7", "20.7", "20.11", "24.6"),
    ),
    test=(
        "schumann_clara/polonaise_op1n4.mxl",
        "schumann_robert/opus41no1/movement5.mxl",
        "schubert/Lindenbaum.xml",
    ),
)

ORGAN = Recipe(
    name="organ",
    description="Church organ: single voices, pairs of voices, chorales and fugues.",
    instruments=(Instrument("organ", 19, 28, 96),),
    manner=Manner(
        rubato=0.02, articulation=(0.85, 1.0), swell=0.0, accent=0.0, jitter_s=0.003, velocity=84.0
    ),
    solo_centre=(46.0, 82.0),
    train=(
        "beethoven/opus133.mxl",
        *_movements("beethoven/opus59no2", 2, 4),
        *_movements("beethoven/opus59no3", 1, 2),
        *_trecento("Piero_1-All_onbra d_un perlato", "Giovanni-09_Nascoso_El_Viso"),
        *_chorales(
            "25.6", "26.6", "27.6", "28.6", "29.8", "30.6", "31.9", "32.6", "33.6", "36.4-2",
            "37.6", "38.6", "39.7", "40.3", "40.6", "40.8", "41.6", "42.7",
        ),
    ),
    test=_chorales("144.3", "44.7", "146.8"),
)  # fmt: skip

CANTATA = Recipe(
    name="cantata",
    description="Choir doubled by a string orchestra: single voices, duets and choruses.",
    instruments=(Instrument("choir", 52, 36, 86, doubled_by=48),),
    manner=Manner(articulation=(0.9, 1.0), swell=12.0, jitter_s=0.01),
    solo_centre=(48.0, 80.0),
    train=(
        *_movements("schumann_robert/opus41no1", 3, 4),
        *_movements("haydn/opus1no1", 2, 4),
        "beethoven/opus18no5.mxl",
        "beethoven/opus74.mxl",
        *_chorales(
            "47.5", "48.3", "48.7", "5.7", "52.6", "55.5", "56.5", "57.8", "59.3", "6.6", "60.5",
            "62.6", "64.2", "64.4", "64.8", "65.2", "65.7", "66.6", "67.7",
        ),
    ),
    test=_chorales("123.6", "7.7", "70.11", "124.6"),
)  # fmt: skip

RECIPES = {
    recipe.name: recipe for recipe in (PIANO, HARPSICHORD, ORGAN, STRINGS, CANTATA, WOODWIND)
}
