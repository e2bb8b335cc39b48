"""MovieLens, MovieTweetings and SASRec files, written small in their published forms."""

import gzip
from pathlib import Path

import pytest

from upnext.base.errors import BadData
from upnext.events.sources import MovieLensSource, MovieTweetingsSource, RawLog, SASRecSource, read

GENRES = 19


def write(path: Path, text: str, encoding: str = "latin-1") -> None:
    content = text.encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def item_100k(number: int, title: str, *genres: int) -> str:
    flags = "|".join("1" if genre in genres else "0" for genre in range(GENRES))
    return f"{number}|{title}|01-Jan-1995||http://x|{flags}\n"


def movielens(folder: Path, **keys) -> RawLog:
    return read(MovieLensSource(kind="movielens", path=str(folder), **keys))


def tweetings(folder: Path) -> RawLog:
    return read(MovieTweetingsSource(kind="movietweetings", path=str(folder)))


def sasrec(path: Path, **keys) -> RawLog:
    return read(SASRecSource(kind="sasrec", path=str(path), **keys))


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_movielens_100k(tmp_path, ending):
    write(tmp_path / f"u.data{ending}", "196\t242\t3\t881250949\n186\t302\t5\t891717742\n")
    items = item_100k(242, "Café au lait (1994) ", 5, 8) + item_100k(302, "unknown", 0)
    write(tmp_path / f"u.item{ending}", items)
    write(tmp_path / "u.user", "196|49|M|writer|05201\n186|39|F|executive|V3N4P\n")
    raw = movielens(tmp_path)
    assert raw.events.to_dict(as_series=False) == {
        "user_id": [196, 186],
        "item_id": [242, 302],
        "feedback.rating": [3.0, 5.0],
        "time_ms": [881250949000, 891717742000],
    }
    assert raw.feedback == {"rating": "amount"}
    assert raw.items is not None
    assert raw.items.rows() == [
        (242, "Café au lait (1994)", ["Comedy", "Drama"], "Comedy", 1994),
        (302, "unknown", [], "Other", None),
    ]
    assert raw.users is not None
    assert raw.users.to_dict(as_series=False) == {
        "user_id": [196, 186],
        "age": ["49", "39"],
        "gender": ["M", "F"],
        "occupation": ["writer", "executive"],
        "zip_code": ["05201", "V3N4P"],
    }
    assert raw.notes == []


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_movielens_1m(tmp_path, ending):
    write(tmp_path / f"ratings.dat{ending}", "1::1193::5::978300760\n1::661::3::978302109\n")
    write(tmp_path / f"movies.dat{ending}", "661::Été :: Two (1996)::Animation|Musical\n1193::Nowhere (V)::\n")
    write(tmp_path / f"users.dat{ending}", "1::F::1::10::01067\n")
    raw = movielens(tmp_path)
    assert raw.events.rows() == [(1, 1193, 5.0, 978300760000), (1, 661, 3.0, 978302109000)]
    assert raw.items is not None
    assert raw.items.rows() == [
        (661, "Été :: Two (1996)", ["Animation", "Musical"], "Animation", 1996),
        (1193, "Nowhere (V)", [], "Other", None),
    ]
    assert raw.users is not None
    assert raw.users.rows() == [(1, "1", "F", "10", "01067")]


def test_movielens_1m_with_an_order_but_no_times(tmp_path):
    rows = ["2,9,4,0,1", "1,7,5,1,1", "1,8,3,-1,1", "1,6,1,0,1", "2,5,2,1,1"]
    write(tmp_path / "ml1m_ratings_ordered.csv.gz", "\n".join(["user_id,movie_id,rating,order_in_user,x", *rows]))
    raw = movielens(tmp_path)
    assert not raw.has_times
    assert raw.events.rows() == [(1, 6, 1.0), (1, 7, 5.0), (2, 9, 4.0), (2, 5, 2.0)]
    assert raw.items is None
    assert raw.users is None
    assert [note.split(": ")[1] for note in raw.notes] == [
        "left out 1 ratings that have no order (-1)",
        "no titles, no genres",
        "no ages",
    ]
    write(tmp_path / "ratings.dat", "1::7::5::978300760\n")
    assert movielens(tmp_path).has_times  # the published file is preferred
    assert not movielens(tmp_path, variant="1m-ordered").has_times


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_movielens_from_20m_on(tmp_path, ending):
    write(
        tmp_path / f"ratings.csv{ending}", "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n1,7,0.5,1147868817\n"
    )
    movies = 'movieId,title,genres\n296,"Été, The (1994)",Comedy|Drama\n7,Web (?),(no genres listed)\n'
    write(tmp_path / f"movies.csv{ending}", movies, "utf-8")
    raw = movielens(tmp_path)
    assert raw.events.rows() == [(1, 296, 5.0, 1147880044000), (1, 7, 0.5, 1147868817000)]
    assert raw.items is not None
    assert raw.items.rows() == [
        (296, "Été, The (1994)", ["Comedy", "Drama"], "Comedy", 1994),
        (7, "Web (?)", [], "Other", None),
    ]
    assert raw.notes == []
    write(tmp_path / f"ratings.csv{ending}", "userId,movieId,rating,timestamp\n1,296,5.5,1147880044\n")
    with pytest.raises(BadData, match=r"row 1 \(line 2\): column 'rating' is '5.5'; allowed: 0 to 5"):
        movielens(tmp_path, variant="csv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1\t2\t3", "u.data row 2: column 'line' is '1\\t2\\t3'; allowed: 4 fields separated by '\\t': user, item"),
        ("1\t\t3\t881250949", "u.data row 2: column 'item' is missing"),
        ("1\t2\t6\t881250949", "u.data row 2: column 'rating' is '6'; allowed: 0 to 5"),
        ("1\t2\t\t881250949", "u.data row 2: column 'rating' is missing"),
        ("1\t2\tx\t881250949", "u.data row 2: column 'rating' is 'x'; allowed: numbers"),
        ("1\t2\t3\t0", "u.data row 2: time 0 is 1970-01-01 00:00:00 UTC"),
        ("", "u.data row 2: column 'line' is ''"),
    ],
)
def test_movielens_lines_that_are_not_as_published(tmp_path, line, message):
    write(tmp_path / "u.data", f"1\t2\t3\t881250949\n{line}\n9\t9\t3\t881250949\n")
    with pytest.raises(BadData) as caught:
        movielens(tmp_path)
    assert message in str(caught.value)


def test_movielens_side_tables_that_are_not_as_published(tmp_path):
    write(tmp_path / "ratings.dat", "1::7::5::978300760\n")
    write(tmp_path / "movies.dat", "7::A (1999)::Drama\n7::B (1999)::Drama\n")
    with pytest.raises(BadData, match=r"movies.dat row 2: column 'item' is '7'; allowed: each id once"):
        movielens(tmp_path)
    write(tmp_path / "movies.dat", "7::A (1999)::Drama\n8::B\n")
    with pytest.raises(BadData, match=r"movies.dat row 2: column 'line' is '8::B'; allowed: id::title"):
        movielens(tmp_path)
    write(tmp_path / "movies.dat", "x::A (1999)::Drama\n")
    with pytest.raises(BadData, match=r"movies.dat row 1: column 'item' is 'x'; allowed: integers"):
        movielens(tmp_path)
    write(tmp_path / "ratings.dat", "")
    with pytest.raises(BadData, match=r"ratings.dat is empty"):
        movielens(tmp_path)


def test_movielens_that_is_not_there(tmp_path):
    with pytest.raises(
        BadData, match=r"holds no u.data or ratings.dat or ml1m_ratings_ordered.csv or ratings.csv .*download"
    ):
        movielens(tmp_path)
    write(tmp_path / "u.data", "1\t2\t3\t881250949\n")
    with pytest.raises(BadData, match=r"holds no ratings.dat \(plain"):
        movielens(tmp_path, variant="1m")


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_movietweetings(tmp_path, ending):
    write(tmp_path / f"ratings.dat{ending}", "1::0054890::9::1381945744\n2::1408101::10::1382400295\n", "utf-8")
    movies = "0054890::Fantômas (1913)::Crime|Drama\n1408101::Nameless::\n0000001::::Short\n"
    write(tmp_path / f"movies.dat{ending}", movies, "utf-8")
    raw = tweetings(tmp_path)
    assert raw.events.rows() == [(1, "0054890", 1381945744000, 9.0), (2, "1408101", 1382400295000, 10.0)]
    assert raw.items is not None
    assert raw.items.rows() == [
        ("0054890", "Fantômas (1913)", ["Crime", "Drama"], "Crime", 1913),
        ("1408101", "Nameless", [], "Other", None),
        ("0000001", None, ["Short"], "Short", None),
    ]


def test_movietweetings_ids_are_text_even_without_leading_zeros(tmp_path):
    write(tmp_path / "ratings.dat", "1::1408101::10::1382400295\n")
    raw = tweetings(tmp_path)
    assert raw.events["item_id"].to_list() == ["1408101"]
    assert raw.items is None
    assert "holds no movies.dat" in raw.notes[0]


def test_movietweetings_errors(tmp_path):
    with pytest.raises(BadData, match=r"holds no ratings.dat"):
        tweetings(tmp_path)
    write(tmp_path / "ratings.dat", "1::1408101::11::1382400295\n")
    with pytest.raises(BadData, match=r"ratings.dat row 1: column 'rating' is '11'; allowed: 0 to 10"):
        tweetings(tmp_path)
    write(tmp_path / "ratings.dat", "1::1408101::1::1382400295\n")
    write(tmp_path / "movies.dat", "1::A::\n2::Fantômas::\n", "latin-1")
    with pytest.raises(BadData, match=r"movies.dat row 2 is not utf-8"):
        tweetings(tmp_path)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_sasrec(tmp_path, ending):
    path = tmp_path / f"log.txt{ending}"
    write(path, "2 9\n1 7\r\n1\t 8 \n\n")
    raw = sasrec(path)
    assert raw.events.rows() == [(2, 9), (1, 7), (1, 8)]
    assert not raw.has_times
    assert raw.feedback == {}


def test_sasrec_with_items(tmp_path):
    write(tmp_path / "log.txt", "a 9\n")
    write(tmp_path / "items.csv", "item,title\n9,Nine\n")
    raw = sasrec(tmp_path / "log.txt", items={"path": str(tmp_path / "items.csv"), "item": "item"})
    assert raw.events.rows() == [("a", 9)]
    assert raw.items is not None
    assert raw.items.rows() == [(9, "Nine")]


@pytest.mark.parametrize("line", ["1 7 8", "1", "", "1,7"])
def test_sasrec_errors(tmp_path, line):
    write(tmp_path / "log.txt", f"1 7\n{line}\n2 7\n")
    with pytest.raises(BadData) as caught:
        sasrec(tmp_path / "log.txt")
    assert f"log.txt row 2: column 'line' is {line!r}; allowed: two ids" in str(caught.value)
    with pytest.raises(BadData, match="there is no file"):
        sasrec(tmp_path / "nothing.txt")
