"""What these tests measured is shown at the end of the run."""

import pytest

FIGURES = "figures"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that the tests recorded."""
    figures = [
        f"{report.nodeid.rpartition('::')[2]}: {value}"
        for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
        if isinstance(report, pytest.TestReport)
        for name, value in report.user_properties
        if name == FIGURES
    ]
    if figures:
        terminalreporter.section(FIGURES)
        for line in figures:
            terminalreporter.line(line)
