"""What the gateway counts, for Prometheus. Counted per flush or per connection, never per delivered message."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge


class Metrics:
    """The gateway's metrics in one registry; tests bring a registry of their own."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.connections = Gauge("fourtalk_connections", "Open WebSockets", registry=registry)
        self.channels = Gauge("fourtalk_channels", "Channels with members on this node", registry=registry)
        self.closes = Counter("fourtalk_closes", "Closed WebSockets", ["code"], registry=registry)
        self.resumes = Counter(
            "fourtalk_resumes",
            "Recovered positions: lossless, replayed, reset",
            ["result"],
            registry=registry,
        )
        self.congested = Gauge("fourtalk_congested", "Connections with a backlog", registry=registry)
        self.dropped = Counter(
            "fourtalk_dropped", "Volatile messages not delivered, by cause", ["cause"], registry=registry
        )
        self.gaps = Counter("fourtalk_gaps", "Gaps in a channel filled from history", registry=registry)
        self.limited = Counter(
            "fourtalk_limited", "Messages above a rate, by bucket", ["bucket"], registry=registry
        )
        self.bus_up = Gauge(
            "fourtalk_bus_up", "1 while the bus between nodes is connected", registry=registry
        )
