"""Read a page as its readers do: sections, tables, lists and charts by what is written in them."""

import re
import xml.etree.ElementTree as ET

RECOMMENDERS = ("popularity", "sasrec", "mme_sid", "oracle")


def fixed(value, digits=4):
    return f"{value:.{digits}f}".replace("-", "\u2212")


def share(value, signed=False, digits=1):
    return f"{100 * value:{'+' if signed else ''}.{digits}f}\u2009%".replace("-", "\u2212")


def parse(text):
    text = re.sub(r"<style>.*?</style>", "", text.removeprefix("<!doctype html>"), flags=re.DOTALL)
    return ET.fromstring(re.sub(r"(<(?:meta|link) [^>]*)>", r"\1/>", text))


def text_of(node):
    return "".join(node.itertext()).strip()


def classed(node, name, style):
    return [one for one in node.iter(name) if style in one.get("class", "").split()]


def section(page, title):
    (found,) = [one for one in page.iter("section") if one.find("h2") is not None and text_of(one.find("h2")) == title]
    return found


def rows_of(part, table=0):
    """Return the cells of a table by the recommender or modality that its rows name."""
    body = list(part.iter("tbody"))[table]
    return {text_of(next(iter(row.find("th").iter("span")), row.find("th"))): row.findall("td") for row in body}


def heads_of(part, table=0):
    return [text_of(head) for head in list(part.iter("thead"))[table].iter("th")]


def lines_of(cell):
    return [text_of(one) for one in cell if one.tag in ("b", "small", "span")]


def listed(node):
    """Return the definitions of a `dl` by their terms."""
    return {text_of(term): text_of(value) for term, value in zip(node.iter("dt"), node.iter("dd"), strict=True)}


def points_of(path):
    """Return the corners of a path of straight lines."""
    return [tuple(map(float, corner.split(","))) for corner in path.get("d").removeprefix("M").split("L")]


def number_of(node, name):
    return float(node.get(name))
