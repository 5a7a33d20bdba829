"""Every table of the product, for alembic: importing this module imports every models module."""

import billing.models
import rooms.models
import server.audit
import server.features.accounts.models
import server.features.bookings.models
import server.features.courses.models
import server.features.notifications.models
import server.features.talks.models
import server.features.tutors.models
import server.gateway.models
import server.idempotency
import server.integrations.stripe_fake.tape
import server.models
import server.upkeep

METADATA = [billing.models.Base.metadata, rooms.models.Base.metadata, server.models.Base.metadata]
