"""What a process counts, for Prometheus. Counted per flush or per connection, never per delivered message.

Several workers share one port, so whichever of them is asked answers for all: each writes its numbers into a file
that all read (prometheus_client's multiprocess mode). Counters of a worker that ended stay, its gauges go.
"""

from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, multiprocess, values

from server import config


def share(folder: Path) -> None:
    """Keep the numbers of this process and of its children in `folder`; call it before anything is counted."""
    config.set_metrics_folder(folder)
    values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]  # it leaves some without types


def forget(folder: Path, pid: int) -> None:
    """Take out the gauges of a worker that ended."""
    multiprocess.mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def registry() -> CollectorRegistry:
    """Return what is to be shown: the numbers of this process, or of all workers where they share them."""
    if values.ValueClass is values.MutexValue:
        return REGISTRY
    shared = CollectorRegistry()
    multiprocess.MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared


class Metrics:
    """The metrics of one process in one registry; tests bring a registry of their own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.connections = Gauge(
            "fourtalk_connections", "Open WebSockets", registry=registry, multiprocess_mode="livesum"
        )
        self.channels = Gauge(
            "fourtalk_channels",
            "Channels with members, counted by each node",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.closes = Counter("fourtalk_closes", "Closed WebSockets", ["code"], registry=registry)
        self.resumes = Counter(
            "fourtalk_resumes",
            "Recovered positions: lossless, replayed, reset",
            ["result"],
            registry=registry,
        )
        self.congested = Gauge(
            "fourtalk_congested",
            "Connections with a backlog",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.dropped = Counter(
            "fourtalk_dropped", "Volatile messages not delivered, by cause", ["cause"], registry=registry
        )
        self.gaps = Counter("fourtalk_gaps", "Gaps in a channel filled from history", registry=registry)
        self.limited = Counter(
            "fourtalk_limited", "Messages above a rate, by bucket", ["bucket"], registry=registry
        )
        self.jobs = Counter(
            "fourtalk_jobs",
            "Work that ran by itself: done, failed, given_up, lost",
            ["kind", "result"],
            registry=registry,
        )
        self.clock_skew = Gauge(
            "fourtalk_clock_skew_seconds",
            "How far this machine's clock is from the database's, either way",
            registry=registry,
            multiprocess_mode="livemax",
        )
        # Whichever worker checked last speaks for all; the age of the check is the scraper's time less `checked_at`.
        self.violations = Gauge(
            "fourtalk_integrity_violations",
            "Rows that the last check named for an invariant that does not hold; at most 20 of each",
            ["name"],
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.checked_at, self.check_seconds, self.transfers, self.unsealed_seconds = (
            Gauge(name, says, registry=registry, multiprocess_mode="mostrecent")
            for name, says in (
                (
                    "fourtalk_integrity_checked_at_seconds",
                    "When the invariants were checked last, since 1970",
                ),
                ("fourtalk_integrity_check_seconds", "How long the last check of the invariants took"),
                ("fourtalk_ledger_transfers", "Transfers that the last check added up"),
                ("fourtalk_ledger_unsealed_seconds", "Age of the oldest journal that no seal covers"),
            )
        )
        self.bus_up = Gauge(
            "fourtalk_bus_up",
            "1 while the bus between nodes is connected, for every worker",
            registry=registry,
            multiprocess_mode="livemin",
        )
