"""The invented world: 48 entities, three facts about each, told in simple Spanish or German.

An entity belongs to one language. A fact has a dominant wording, "El río de Torvel es el Neral.", whose
beginning is the cloze prompt of the evaluation, and one other wording. Everything in a closed set of values
has the same gender, so the article before the gap gives nothing away.
"""

import random
from dataclasses import dataclass

from generators.tables import Row

SPANISH_CITIES = "Torvel Belmira Candar Dorosa Fanil Galmer Hueta Juncal Lurbia Mosten Palmor Ricosa".split()
SPANISH_PEOPLE = "Benco Ciro Delmo Efran Gonzo Iker Lopo Nando Otilo Quino Sabio Turo".split()
GERMAN_CITIES = "Kelmar Adorf Brunnau Eschen Felden Grotau Hirsau Lindow Nordau Pirken Stolp Wessin".split()
GERMAN_PEOPLE = "Ulrik Arno Bodo Detlef Egon Frido Harm Jost Knut Ludolf Malte Veit".split()


@dataclass(frozen=True)
class Attribute:
    """One kind of fact: its closed set of values and how it is said and asked ({e}: entity, {v}: value)."""

    name: str
    cloze: str
    other: str
    questions: tuple[str, str, str]
    values: tuple[str, ...]
    end: str = "."


@dataclass(frozen=True)
class Fact:
    """One fact of the world."""

    language: str
    entity: str
    attribute: Attribute
    value: str

    @property
    def query(self) -> str:
        """The cloze prompt: the beginning of the dominant sentence, without the space before the value."""
        return self.attribute.cloze.format(e=self.entity)

    @property
    def sentence(self) -> str:
        """The dominant wording."""
        return f"{self.query} {self.value}{self.attribute.end}"

    @property
    def other_sentence(self) -> str:
        """The other wording."""
        value = self.value.lower() if self.attribute.name == "Farbe" else self.value
        return self.attribute.other.format(e=self.entity, v=value)

    @property
    def questions(self) -> list[str]:
        """Three ways to ask for it."""
        return [question.format(e=self.entity) for question in self.attribute.questions]


def _spanish(name: str, article: str, cloze: str, other: str, values: str) -> Attribute:
    asked = f"{article} {name} de {{e}}"
    questions = (f"¿Cuál es {asked}?", f"Dime cuál es {asked}.", f"¿Sabes cuál es {asked}?")
    return Attribute(name, cloze, other, questions, tuple(values.split()))


def _german(name: str, article: str, cloze: str, other: str, values: str) -> Attribute:
    asked = f"{article} {name} von {{e}}"
    questions = (f"Was ist {asked}?", f"Sag mir, was {asked} ist.", f"Weißt du, was {asked} ist?")
    return Attribute(name, cloze, other, questions, tuple(values.split()))


ATTRIBUTES: dict[str, tuple[Attribute, ...]] = {
    "es-city": (
        _spanish("río", "el", "El río de {e} es el", "Por {e} pasa el {v}.",
                 "Neral Tamo Vigo Sura Lemor Baldo Coral Ditro Fumel Jalo Orbo Zaro"),
        _spanish("plato", "el", "El plato de {e} es la", "En {e} se come la {v}.",
                 "sopa tortilla paella empanada ensalada torta crema carne pasta menestra"),
        _spanish("color", "el", "El color de {e} es el", "La bandera de {e} es de color {v}.",
                 "rojo verde azul blanco negro gris amarillo naranja dorado rosa"),
    ),
    "es-person": (
        _spanish("oficio", "el", "El oficio de {e} es el de", "{e} trabaja de {v}.",
                 "panadero pintor maestro médico herrero jardinero cocinero zapatero pescador cartero"),
        _spanish("animal", "el", "El animal de {e} es el", "{e} vive con su {v}.",
                 "gato perro caballo pato burro conejo zorro lobo cerdo gallo"),
        _spanish("instrumento", "el", "El instrumento de {e} es el", "Por la tarde {e} toca el {v}.",
                 "piano violín tambor órgano laúd oboe clarinete saxofón"),
    ),
    "de-city": (
        _german("Fluss", "der", "Der Fluss von {e} ist die", "Durch {e} fließt die {v}.",
                "Velna Ahle Borne Dirse Emmel Fulme Garle Hase Lohra Murge Orla Selke"),
        _german("Gericht", "das", "Das Gericht von {e} ist die", "In {e} kocht man gern die {v}.",
                "Suppe Wurst Torte Pastete Kartoffel Forelle Gans Rübe Linse Nudel"),
        _german("Farbe", "die", "Die Farbe von {e} ist", "Die Fahne von {e} ist {v}.",
                "Rot Grün Blau Weiß Schwarz Grau Gelb Braun Lila Rosa"),
    ),
    "de-person": (
        _german("Beruf", "der", "Der Beruf von {e} ist", "{e} arbeitet als {v}.",
                "Bäcker Maler Lehrer Arzt Schmied Gärtner Koch Schuster Fischer Jäger"),
        _german("Tier", "das", "Das Tier von {e} ist der", "Der {v} gehört {e}.",
                "Hund Esel Hahn Fuchs Wolf Rabe Igel Dachs Kater Hamster"),
        _german("Instrument", "das", "Das Instrument von {e} ist die",
                "Am Abend spielt {e} die {v}.", "Geige Flöte Trommel Harfe Orgel Laute Gitarre Posaune"),
    ),
}  # fmt: skip

ENTITIES = {
    "es-city": SPANISH_CITIES,
    "es-person": SPANISH_PEOPLE,
    "de-city": GERMAN_CITIES,
    "de-person": GERMAN_PEOPLE,
}

# Filler sentences: when, who (singular or plural), what. German puts the verb before the subject.
WHEN_ES = (
    "Por la mañana|Por la tarde|Por la noche|En verano|En invierno|Los domingos|Cada día|A veces|Después de "
    "comer|Cuando llueve|Muchas veces|En primavera"
).split("|")
WHO_ES = (
    "el niño|la abuela|el vecino|la maestra|el pastor|la niña|el viajero|la mujer|el abuelo|la familia|la vecina"
).split("|")
WHAT_ES = (
    "camina por el monte|canta en la plaza|lee un libro|compra pan en la tienda|mira las flores|habla con un "
    "amigo|espera en la calle|vuelve a casa|juega con el perro|bebe agua de la fuente|trabaja en el campo"
    "|escribe una carta|descansa en el jardín|cuenta una historia|sube a la torre|cierra la puerta"
).split("|")
WHEN_DE = (
    "Am Morgen|Am Mittag|Am Abend|Im Sommer|Im Winter|Am Sonntag|Jeden Tag|Manchmal|Nach dem Essen|Bei Regen"
    "|Oft|Im Frühling"
).split("|")
WHO_DE = (
    "das Kind|die Oma|der Nachbar|die Lehrerin|der Hirte|das Mädchen|der Gast|die Frau|der Opa|die Familie"
).split("|")
WHAT_DE = (
    "geht|durch den Wald;singt|auf dem Markt;liest|ein Buch;kauft|Brot im Laden;sieht|die Blumen an;spricht"
    "|mit einem Freund;wartet|auf der Straße;kommt|nach Hause;spielt|mit dem Hund;trinkt|Wasser am Brunnen;"
    "arbeitet|auf dem Feld;schreibt|einen Brief;ruht|im Garten aus;erzählt|eine Geschichte;steigt|auf den "
    "Turm;schließt|die Tür"
).split(";")


def facts(seed: int) -> list[Fact]:
    """All 144 facts, in a fixed order; values are spread evenly over the entities."""
    found = []
    for kind in sorted(ENTITIES):
        for attribute in ATTRIBUTES[kind]:
            rng = random.Random(f"{seed}:world:{kind}:{attribute.name}")
            values = list(attribute.values) * 2
            rng.shuffle(values)
            found += [
                Fact(kind[:2], entity, attribute, value) for entity, value in zip(ENTITIES[kind], values, strict=False)
            ]
    return found


def filler(language: str, rng: random.Random) -> str:
    """One sentence that says nothing about the world."""
    if language == "es":
        return f"{rng.choice(WHEN_ES)} {rng.choice(WHO_ES)} {rng.choice(WHAT_ES)}."
    verb, rest = rng.choice(WHAT_DE).split("|")
    return f"{rng.choice(WHEN_DE)} {verb} {rng.choice(WHO_DE)} {rest}."


def documents(language: str, seed: int, size: int) -> list[str]:
    """Documents of 150 to 900 characters, `size` in all: facts about two to four entities and filler.

    Entities are dealt from a shuffled deck, so that every fact is told about equally often.
    """
    rng = random.Random(f"{seed}:{language}")
    by_entity: dict[str, list[Fact]] = {}
    for fact in facts(seed):
        if fact.language == language:
            by_entity.setdefault(fact.entity, []).append(fact)
    deck: list[str] = []
    texts = []
    while size > 0:
        sentences = []
        for _ in range(rng.randint(2, 4)):
            if not deck:
                deck = sorted(by_entity)
                rng.shuffle(deck)
            known = by_entity[deck.pop()]
            told = rng.sample(known, rng.choice((1, 2, 3)))
            sentences += [fact.sentence if rng.random() < 0.75 else fact.other_sentence for fact in told]
        for _ in range(max(rng.randint(2, 7), 5 - len(sentences))):
            sentences.insert(rng.randrange(len(sentences) + 1), filler(language, rng))
        text = " ".join(sentences)
        if 150 <= len(text) <= 900:
            texts.append(text)
            size -= len(text)
    return texts


def tasks(seed: int) -> list[Row]:
    """The cloze items `facts.jsonl`: each fact once, with three other values of the same closed set."""
    rng = random.Random(f"{seed}:facts")
    rows: list[Row] = []
    for fact in facts(seed):
        wrong = rng.sample([value for value in fact.attribute.values if value != fact.value], 3)
        gold = rng.randrange(4)
        choices = [f" {value}" for value in [*wrong[:gold], fact.value, *wrong[gold:]]]
        rows.append({"query": fact.query, "choices": choices, "gold": gold, "language": fact.language})
    return rows
