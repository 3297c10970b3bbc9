"""Makes a small example table for each of the use cases in docs/use-cases, with its pictures, sounds, films and series.

The data are made up, but look like those of a company: no modality alone tells the target. `table.csv` holds the rows
that the recipe learns from, `new.csv` a few more without the target, for `automm predict`.

    python recipes/make_data.py fraud                                # writes recipes/data/fraud
    python recipes/make_data.py spoken-command /tmp/words --rows 80  # another folder, fewer rows
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

import made_media as media
import numpy as np

Row = dict[str, object]
Random = np.random.Generator
NEW_ROWS = 12
"""Rows of `new.csv`."""


class UseCase(NamedTuple):
    """How a table is made.

    Attributes:
        row: Random numbers, row number and folder for media → cells.
        targets: Columns that `new.csv` does not hold.
        rows: Rows of `table.csv` unless the command line says otherwise.
        new: Makes the rows of `new.csv`, if they differ from the others.
    """

    row: Callable[[Random, int, Path], Row]
    targets: tuple[str, ...]
    rows: int
    new: Callable[[Random, int, Path], Row] | None = None


def member(kind: str, number: int) -> Random:
    """Random numbers that belong to one patient, machine, item …, the same in all of its rows."""
    return np.random.default_rng([*kind.encode(), number])


def yes(value: object) -> str:
    """A truth value as people write it."""
    return "yes" if value else "no"


def one_of(random: Random, *choices: str) -> str:
    """One of some texts."""
    return choices[random.integers(len(choices))]


PRAISE = ("works perfectly", "I love it", "great value", "sturdy and well made", "my family adores it")
BLAME = ("stopped working", "feels cheap", "a waste of money", "the colour is off", "instructions are useless")
NEUTRAL = ("Bought it in spring.", "It arrived in a brown box.", "A present for my sister.", "My second one.", "")


def review_sentiment(random: Random, number: int, folder: Path) -> Row:
    """A clear review tells; in a mixed one the delivery and the return decide."""
    happy, mixed = random.random() < 0.5, random.random() < 0.4
    own, other = (PRAISE, BLAME) if happy else (BLAME, PRAISE)
    parts = [one_of(random, *own), one_of(random, *(other if mixed else own))]
    random.shuffle(parts)
    review = f"{one_of(random, *NEUTRAL)} {parts[0].capitalize()}, {one_of(random, 'and', 'but')} {parts[1]}."
    return {
        "review": review.strip(),
        "product": one_of(random, "kettle", "lamp", "backpack", "headphones"),
        "price": round(float(random.uniform(15, 120)), 2),
        "delivery_days": int(random.integers(1, 5) if happy else random.integers(3, 12)),
        "returned": yes(random.random() < (0.05 if happy else 0.6)),
        "sentiment": "positive" if happy else "negative",
    }


def product_photo_title(random: Random, number: int, folder: Path) -> Row:
    """The photo shows what it is, the title says whom it is for."""
    thing, whom = one_of(random, "shirt", "shoe"), one_of(random, "kids", "women")
    words = {"kids": ("for little explorers", "kids", "age 4-6", "school"), "women": ("ladies", "women's", "for her")}
    photo = f"photos/{number:05}.png"
    media.save_picture(folder / photo, media.garment(random, thing))
    brand, material = one_of(random, "Norda", "Belluno", "Kite & Co"), one_of(random, "cotton", "canvas", "light")
    title = f"{brand} {material} {one_of(random, *words[whom])} {one_of(random, 'new season', 'classic', 'basic')}"
    return {"photo": photo, "title": title, "category": f"{whom} {thing}s"}


def fraud(random: Random, number: int, folder: Path) -> Row:
    """One payment in twenty is a fraud: large for a new account, at night, from another country."""
    fake = random.random() < 0.05
    foreign, night = random.random() < (0.7 if fake else 0.15), random.random() < (0.6 if fake else 0.15)
    paid = datetime(2025, 1, 1) + timedelta(minutes=37 * number + int(random.integers(30)))
    return {
        "paid_at": paid.isoformat(sep=" ", timespec="minutes"),
        "amount": round(float(random.lognormal(4.8 if fake else 3.5, 0.8)), 2),
        "hour": int(random.integers(0, 5) if night else random.integers(5, 24)),
        "card_country": one_of(random, "BR", "VN", "US", "NG") if foreign else one_of(random, "DE", "AT"),
        "shop": one_of(random, *(("gift cards", "electronics") if fake else ("food", "books", "fuel", "electronics"))),
        "account_days": int(random.exponential(40 if fake else 500)),
        "payments_today": int(random.poisson(4 if fake else 1)),
        "fraud": yes(fake),
    }


def medical_record(random: Random, number: int, folder: Path) -> Row:
    """A finding is malignant if the scan shows a spiky outline and the blood marker is raised; two scans a patient."""
    patient = number // 2
    facts = member("patient", patient)
    malignant = facts.random() < 0.5
    spiky, raised = (True, True) if malignant else ((True, False), (False, True), (False, False))[facts.integers(3)]
    image = f"scans/{number:05}.png"
    media.save_picture(folder / image, media.scan(random, spiky))
    return {
        "patient": f"P{patient:04}",
        "scan": image,
        "view": ("front", "side")[number % 2],
        "age": int(facts.integers(30, 85)),
        "sex": one_of(facts, "f", "m"),
        "smoker": yes(facts.random() < 0.3),
        "marker": round(float(facts.normal(9 if raised else 4, 1.2)), 1),
        "finding": "malignant" if malignant else "benign",
    }


def machine_sensors(random: Random, number: int, folder: Path) -> Row:
    """Wear makes a machine shake, but so does load: only both together tell the failure and the hours left."""
    machine = number // 5
    facts = member("machine", machine)
    weak, turn = one_of(facts, "bearing", "unbalance"), facts.uniform(8, 14)
    wear, load = random.uniform(0, 1), random.uniform(0.3, 1)
    shake = 1.6 * wear * load
    path = f"vibration/{number:05}.csv"
    strength = {"unbalance": shake if weak == "unbalance" else 0.0, "bearing": shake if weak == "bearing" else 0.0}
    media.save_series(folder / path, media.vibration(random, turn, **strength), ("x", "y"))
    return {
        "machine": f"M{machine:03}",
        "vibration": path,
        "load": round(float(load), 2),
        "turns_per_second": round(float(turn), 1),
        "coolant": one_of(random, "A", "B"),
        "failure": "healthy" if wear < 0.5 else weak,
        "hours_left": round(max(float(400 * (1 - wear) + random.normal(0, 10)), 0.0), 1),
    }


def surveillance_clip(random: Random, number: int, folder: Path) -> Row:
    """A fight is quick movement with shouts; children who run are quick too, and a caller shouts too."""
    fight = random.random() < 0.5
    fast, loud = (True, True) if fight else ((True, False), (False, True), (False, False))[random.integers(3)]
    clip = f"clips/{number:05}.mp4"
    media.save_film(folder / clip, media.street(random, fast), media.street_sound(random, loud))
    return {"camera": f"cam{number // 8:02}", "clip": clip, "event": "fight" if fight else "normal"}


def spoken_command(random: Random, number: int, folder: Path) -> Row:
    """Every speaker says every word twice."""
    speaker, word = number // 8, tuple(media.WORDS)[number % 4]
    facts = member("speaker", speaker)
    recording = f"recordings/{number:05}.wav"
    voice = media.spoken(random, word, pitch=facts.uniform(95, 220), throat=facts.uniform(0.9, 1.15))
    media.save_sound(folder / recording, voice)
    return {"speaker": f"S{speaker:02}", "recording": recording, "command": word}


SURFACES = {  # shade of the road, its grain, roughness of the ride, slip of the wheels
    "asphalt": (90, 6, 0.2, 0.02),
    "ice": (90, 6, 0.2, 0.25),
    "gravel": (120, 30, 0.9, 0.10),
    "cobbles": (120, 30, 2.0, 0.03),
}


def vehicle_sensors(random: Random, number: int, folder: Path) -> Row:
    """The camera does not tell ice from asphalt nor gravel from cobbles; wheels and acceleration do."""
    drive, surface = number // 8, one_of(random, *SURFACES)
    shade, grain, rough, slip = SURFACES[surface]
    row: Row = {"drive": f"D{drive:02}"}
    for camera in ("front", "rear"):
        row[f"camera_{camera}"] = f"{camera}/{number:05}.png"
        media.save_picture(folder / str(row[f"camera_{camera}"]), media.road(random, shade, grain))
    row["acceleration"], row["wheels"] = f"acceleration/{number:05}.csv", f"wheels/{number:05}.csv"
    speed = random.uniform(8, 16) + np.cumsum(random.normal(0, 0.05, 100))
    media.save_series(folder / str(row["acceleration"]), random.normal(0, rough, (100, 3)), ("x", "y", "z"))
    turning = speed[:, None] * (1 + np.abs(random.normal(0, slip, (100, 2))))
    media.save_series(folder / str(row["wheels"]), turning, ("left", "right"))
    return row | {"surface": surface}


def visual_question(random: Random, number: int, folder: Path) -> Row:
    """A question about the colour or the kind of the only shape."""
    kind, colour = one_of(random, "circle", "square", "triangle"), one_of(random, *media.COLOURS)
    image = f"images/{number:05}.png"
    media.save_picture(folder / image, media.shape(random, kind, media.COLOURS[colour]))
    asked, answer = (("colour", "color"), colour) if random.random() < 0.5 else (("shape", "figure", "kind"), kind)
    opening = one_of(random, "What {} is it", "Which {} do you see", "Name the {}", "Tell me the {}")
    closing = one_of(random, "?", " in the picture?", ", please", " here?")
    return {"image": image, "question": opening.format(one_of(random, *asked)) + closing, "answer": answer}


GENRES = {"crime": "red", "nature": "green", "space": "blue"}
PLOTS = {
    "crime": ("A detective hunts a killer", "A heist goes wrong", "A judge is bribed"),
    "nature": ("Wolves cross the mountains", "A year in the rain forest", "Whales sing in the deep"),
    "space": ("Astronauts lose their ship", "A colony on Mars falls silent", "Robots find a dying star"),
}
USERS, ITEMS = 400, 60


class Film(NamedTuple):
    """An item: its genre, which the poster shows too, and what the catalogue says of it."""

    genre: str
    plot: str
    praised: bool


@cache
def film(item: int) -> Film:
    """The item of a number."""
    facts = member("film", item)
    genre, praised = one_of(facts, *GENRES), bool(facts.random() < 0.5)
    opening = one_of(
        facts, *(("Award-winning:", "From the makers of a hit:") if praised else ("New:", "A first film:"))
    )
    return Film(
        genre, f"{opening} {one_of(facts, *PLOTS[genre])} {one_of(facts, 'at night', 'again', 'at last')}.", praised
    )


def recommendation(random: Random, number: int, folder: Path) -> Row:
    """Users like films of the genre that they watched most, and films that critics praised."""
    shown = datetime(2025, 3, 1) + timedelta(hours=number)
    pair = user_and_item(random, int(random.integers(USERS)), int(random.integers(ITEMS)), folder)
    return {"shown_at": shown.isoformat(sep=" ", timespec="minutes"), **pair}


def candidates(random: Random, number: int, folder: Path) -> Row:
    """One user who is not in the table, with one item after the other."""
    return {"shown_at": "2025-12-24 18:00", **user_and_item(random, USERS, number % ITEMS, folder)}


def user_and_item(random: Random, user: int, item: int, folder: Path) -> Row:
    """The columns of a user and of an item, and whether the user liked it."""
    facts = member("user", user)
    taste = one_of(facts, *GENRES)
    genre, plot, praised = film(item)
    poster = f"posters/{item:03}.png"
    if not (folder / poster).exists():
        square = media.shape(member("poster", item), "square", media.COLOURS[GENRES[genre]], side=32)
        media.save_picture(folder / poster, square)
    watched = [*facts.permutation([at for at in range(ITEMS) if film(at).genre == taste])[:3], facts.integers(ITEMS)]
    return {
        "user": f"U{user:03}",
        "age": int(facts.integers(16, 80)),
        "watched": "|".join(f"film{at}" for at in facts.permutation(watched)),
        "item": f"film{item}",
        "plot": plot,
        "poster": poster,
        "watched_of_genre": sum(film(int(at)).genre == genre for at in watched),
        "liked": yes(random.random() < 0.05 + 0.55 * (genre == taste) + 0.35 * praised),
    }


USE_CASES = {
    "review-sentiment": UseCase(review_sentiment, ("sentiment",), 600),
    "product-photo-title": UseCase(product_photo_title, ("category",), 400),
    "fraud": UseCase(fraud, ("fraud",), 4000),
    "medical-record": UseCase(medical_record, ("finding",), 500),
    "machine-sensors": UseCase(machine_sensors, ("failure", "hours_left"), 400),
    "surveillance-clip": UseCase(surveillance_clip, ("event",), 200),
    "spoken-command": UseCase(spoken_command, ("command",), 320),
    "vehicle-sensors": UseCase(vehicle_sensors, ("surface",), 320),
    "visual-question": UseCase(visual_question, ("answer",), 800),
    "recommendation": UseCase(recommendation, ("liked",), 1500, new=candidates),
}


def make(name: str, folder: Path, rows: int | None = None) -> None:
    """Writes the tables and media of a use case; the same rows every time.

    Args:
        name: One of `USE_CASES`.
        folder: Where to.
        rows: Rows of `table.csv`.
    """
    case = USE_CASES[name]
    rows = rows or case.rows
    folder.mkdir(parents=True, exist_ok=True)
    made = [case.row(np.random.default_rng([7, number]), number, folder) for number in range(rows)]
    write_table(folder / "table.csv", made)
    # Rows from 100,000 on belong to patients, machines and speakers of their own.
    numbers = range(100_000, 100_000 + NEW_ROWS)
    new = [(case.new or case.row)(np.random.default_rng([7, number]), number, folder) for number in numbers]
    write_table(folder / "new.csv", [{key: row[key] for key in row if key not in case.targets} for row in new])


def write_table(path: Path, rows: list[Row]) -> None:
    """Writes a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Makes the example table of a use case.")
    parser.add_argument("use_case", choices=USE_CASES)
    parser.add_argument("folder", nargs="?", type=Path, help="default: recipes/data/USE_CASE")
    parser.add_argument("--rows", type=int, help="rows of table.csv")
    wanted = parser.parse_args()
    folder = wanted.folder or Path(__file__).parent / "data" / wanted.use_case
    make(wanted.use_case, folder, wanted.rows)
    print(f"wrote {folder / 'table.csv'} and {folder / 'new.csv'}")


if __name__ == "__main__":
    main()
