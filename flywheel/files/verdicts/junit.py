"""A verdict as JUnit XML, which every pipeline shows as test results.

JUnit has no published standard. The form is that of the schema which most tools check against, windyroad's JUnit.xsd:
order of elements, required attributes, whole counts. What is undecided counts as skipped.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from flywheel.files.verdicts.report import Claim, Suite, VerdictReport

# XML 1.0 has no form for these characters, not even escaped
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


def junit(report: VerdictReport) -> str:
    """The whole file as text."""
    root = ET.Element("testsuites")
    for number, suite in enumerate(report.suites):
        root.append(_suite(report, suite, number))
    ET.indent(root)
    return _DECLARATION + ET.tostring(root, encoding="unicode") + "\n"


def _suite(report: VerdictReport, suite: Suite, number: int) -> ET.Element:
    element = ET.Element(
        "testsuite",
        {
            "id": str(number),
            "package": "flywheel",
            "name": _clean(suite.name),
            "timestamp": report.now,
            "hostname": "localhost",
            "tests": str(len(suite.checks)),
            "failures": str(suite.count("fail")),
            "errors": "0",
            "skipped": str(suite.count("undecided")),
            "time": f"{report.seconds if not number else 0:.3f}",
        },
    )
    ET.SubElement(element, "properties")
    for check in suite.checks:
        element.append(_case(suite, check))
    ET.SubElement(element, "system-out").text = _clean(report.headline) if not number else ""
    ET.SubElement(element, "system-err")
    return element


def _case(suite: Suite, check: Claim) -> ET.Element:
    case = ET.Element(
        "testcase", {"classname": f"flywheel.{_clean(suite.name)}", "name": _clean(check.name), "time": "0"}
    )
    if check.outcome == "fail":
        failure = ET.SubElement(case, "failure", {"type": "worse or not better", "message": _clean(check.message)})
        failure.text = _clean(check.message)
    elif check.outcome == "undecided":
        ET.SubElement(case, "skipped", {"message": _clean(check.message)})
    return case


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
