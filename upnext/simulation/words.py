"""The words that titles and studios are made of. All invented here; no title of a real work is meant."""

from collections.abc import Iterator

import numpy as np

__all__ = ["studio_names", "titles"]


def _words(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(",")]


_ADJECTIVES = _words("""
amber, ancient, bitter, blue, borrowed, bright, broken, burning, careful, copper, crooked, crystal,
dancing, distant, dusty, eleventh, empty, endless, faithful, fallen, first, forgotten, fragile, frozen,
gentle, gilded, golden, green, hidden, hollow, honest, hungry, idle, inland, iron, last, late, little,
lonely, long, lost, lucky, marble, midnight, misty, nameless, narrow, northern, open, paper, patient,
perfect, pale, quiet, restless, rising, salt, scarlet, second, secret, seventh, silent, silver, sleeping,
slow, small, southern, spare, steady, still, stolen, strange, sudden, tender, third, tidal, timid,
unwritten, velvet, violet, wandering, warm, western, white, wild, winter, wooden, young
""")

_NOUNS = _words("""
accord, alibi, almanac, anchor, apprentice, archive, arrow, atlas, avenue, balcony, ballad, bargain,
beacon, bell, border, bridge, canyon, captain, carnival, cartographer, cellar, chapter, circle, clock,
coast, comet, compass, corner, courier, crossing, crown, daughter, debt, diary, disguise, door, dream,
echo, ember, engine, errand, evening, exile, falcon, farewell, ferry, fields, fire, footpath, forest,
fortune, fountain, garden, gardener, garrison, ghost, glacier, harbor, harvest, heir, heron, hill,
horizon, hour, house, hunter, inheritance, island, journey, key, kingdom, kitchen, ladder, lagoon, lake,
lantern, ledger, letter, lighthouse, machine, map, market, meadow, melody, messenger, mill, mirror,
monsoon, moon, morning, mountain, museum, neighbor, night, notebook, oath, ocean, orchard, orchestra,
outpost, parade, passage, pilot, pines, planet, portrait, postcard, promise, quarry, quartet, railway,
rain, reef, rehearsal, return, river, road, rumor, saddle, sailor, satellite, scholar, sea, season,
shadow, shore, signal, sister, sky, snow, song, sparrow, spring, staircase, station, stone, storm,
stranger, street, summit, supper, tailor, tide, tower, town, trail, train, treaty, tunnel, valley,
verdict, village, violin, visitor, voyage, wager, waltz, watchman, weather, well, widow, willow, wind,
window, witness, wolf, workshop, year
""")

_PLACES = _words("""
Alder Bay, Ash Hollow, Birch Ferry, Brackwater, Cedar Point, Cold Harbor, Dry Creek, Eastmere, Elm
Crossing, Fairholt, Fernhill, Foxglove Lane, Glass Lake, Granite Pass, Greyfield, Hazelmoor, High Weir,
Juniper Flats, Kestrel Rock, Larkspur, Long Marsh, Maple Junction, Mill End, Northwick, Old Quay, Pine
Hollow, Redwater, Rook Island, Saltmarsh, Sandy Gap, South Fell, Stonebridge, Thistledown, Three Rivers,
Upper Vale, Westerly, Whitecliff, Wren Street
""")

_STUDIO_ENDINGS = _words("Pictures, Studio, House, Films, Works, Collective, Workshop, Media")


def titles(rng: np.random.Generator) -> Iterator[str]:
    """Yield plausible titles, each once, without end."""
    seen: set[str] = set()
    patterns = ("The {a} {n}", "{a} {n}", "{n} of the {a} {m}", "The {n} and the {m}", "The {n} at {p}")
    attempts = 0
    while True:
        attempts += 1
        pattern = patterns[rng.integers(len(patterns))] if attempts < 50 else "The {a} {n} at {p}"
        title = _fill(pattern, rng)
        if title not in seen:
            attempts = 0
            seen.add(title)
            yield title


def studio_names(rng: np.random.Generator) -> Iterator[str]:
    """Yield names of studios, each once; a number follows when the words run out."""
    seen: dict[str, int] = {}
    while True:
        name = f"{_fill('{a} {n}', rng)} {_STUDIO_ENDINGS[rng.integers(len(_STUDIO_ENDINGS))]}"
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} No. {seen[name]}"


def _fill(pattern: str, rng: np.random.Generator) -> str:
    adjective = _ADJECTIVES[rng.integers(len(_ADJECTIVES))].capitalize()
    noun, other = (_NOUNS[k].capitalize() for k in rng.choice(len(_NOUNS), 2, replace=False))
    place = _PLACES[rng.integers(len(_PLACES))]
    return pattern.format(a=adjective, n=noun, m=other, p=place)
