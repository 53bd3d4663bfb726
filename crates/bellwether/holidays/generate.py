#!/usr/bin/env python3
"""Writes table.txt: the public holidays that `bellwether calendar holidays` knows.

    python3 -m venv venv && venv/bin/pip install holidays==0.109
    venv/bin/python crates/bellwether/holidays/generate.py > crates/bellwether/holidays/table.txt

The source is the Python library `holidays` (MIT, https://github.com/vacanza/holidays). What it only expects (days by the moon, as a rule)
keeps its remark "(estimated)": renew the table once a year.

Lines of the table: `CODE <tab> NAME` begins a region, by its code of ISO 3166-1 or 3166-2; a country comes before its parts. A line that
begins with `+` is a holiday of it (for a part: besides those of the country), one with `-` one of the country that the part has not:
`+NAME <tab> DATES`. Dates are `MM-DD` for every year of the table, or `YYYY-MM-DD` one by one, separated by blanks.
"""

import re
import sys
from collections import defaultdict

import holidays
from holidays.registry import COUNTRIES

YEARS = range(2021, 2033)
# Codes of parts as ISO 3166-2 has them after the hyphen; the library knows some cities beside these.
PART = re.compile(r"[A-Z0-9]{1,3}\Z")

# The class of a country is called by its name, in camel case.
NAMES = {code: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name, code, *_ in COUNTRIES.values()}


def english(entity):
    languages = entity.supported_languages or ()
    return next((one for one in ("en_US", "en_GB") if one in languages),
                next((one for one in languages if one.startswith("en")), None))


def days(code, part=None):
    entity = getattr(holidays, code)
    found = entity(years=YEARS, subdiv=part, language=english(entity))
    return {(day, name) for day, names in found.items() if day.year in YEARS
            for name in names.split("; ")}


def write(code, name, plus, minus=()):
    print(f"{code}\t{name}")
    for sign, rows in (("+", plus), ("-", minus)):
        named = defaultdict(list)
        for day, holiday in rows:
            named[" ".join(holiday.split())].append(day)
        for holiday, dates in sorted(named.items(), key=lambda item: (min(item[1]), item[0])):
            of_year = {date.strftime("%m-%d") for date in dates}
            every = len(of_year) == 1 and len(dates) == len(YEARS)
            print(f"{sign}{holiday}\t{' '.join(sorted(of_year if every else {str(date) for date in dates}))}")


def main():
    print(f"# Public holidays {YEARS[0]} to {YEARS[-1]}, by generate.py from the Python library holidays {holidays.__version__} (MIT).")
    countries = holidays.list_supported_countries(include_aliases=False)
    for code, parts in sorted(countries.items()):
        entity = getattr(holidays, code)
        country = days(code)
        write(code, NAMES.get(code, code), country)
        names = {}
        for name, part in getattr(entity, "subdivisions_aliases", {}).items():
            names.setdefault(part, name)
        for part in sorted(part for part in parts if PART.match(part)):
            own = days(code, part)
            write(f"{code}-{part}", names.get(part, part), own - country, country - own)


if __name__ == "__main__":
    sys.exit(main())
