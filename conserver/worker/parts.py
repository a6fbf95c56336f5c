"""WorkerParts: makes the objects of a worker. Each gets the objects that it uses as arguments."""

from __future__ import annotations

from conserver.plugins.loader import Plugins
from conserver.process.boot import Boot
from conserver.queue.retrying_connection import RetryingConnection
from conserver.queue.wrong_type import Complaints
from conserver.telemetry import log
from conserver.telemetry.redact import hide_everywhere, secret_values
from conserver.worker.chain import ChainRunner
from conserver.worker.departures import Departures
from conserver.worker.document_loader import DocumentLoader
from conserver.worker.held_items import HeldItems
from conserver.worker.inbox import WorkerInbox
from conserver.worker.intake import Intake
from conserver.worker.meters import meters_of
from conserver.worker.notifiers import Notifiers
from conserver.worker.outbox import Outbox
from conserver.worker.outcomes import OutcomeHandler
from conserver.worker.pool import ChainPool
from conserver.worker.rates import Rates
from conserver.worker.routes import Routes
from conserver.worker.story import StoryWriter
from conserver.worker.work_queue import WorkQueue
from conserver.worker.writers import Writer


class WorkerParts:
    """The objects, as attributes. Of the threads, only those of the writers run; ChainPool.start
    starts the chain threads.
    """

    def __init__(
        self, boot: Boot, plugins: Plugins, redis: RetryingConnection, inbox: WorkerInbox
    ) -> None:
        # A plugin's model may take secrets from elsewhere than the configuration.
        options = [link.options for link in plugins.links.values()]
        options += [storage.options for storage in plugins.storages.values()]
        hide_everywhere(secret_values(options))
        settings, status = boot.settings, boot.status
        max_document_bytes, threads = settings.max_document_bytes, settings.vcon_concurrency
        self.held = HeldItems(status)
        self.writers = {name: Writer(loaded, inbox) for name, loaded in plugins.storages.items()}
        self.documents = DocumentLoader(redis, status, self.writers, max_document_bytes)

        routes = Routes(boot.config, plugins, max_document_bytes)
        chains = [route for route in routes.all if route is not routes.notifications]
        per_chain = {r.name: min(threads, r.config.concurrency or threads) for r in chains}
        self.queue = WorkQueue(per_chain, inbox)
        self.runner = ChainRunner(status, inbox)
        self.pool = ChainPool(threads, self.queue, self.runner, inbox)

        self.story_writer = StoryWriter(boot, redis)
        self.meters = meters = meters_of(boot, routes.all, self.writers, inbox)
        departures = Departures(boot, redis, self.held, self.story_writer, meters)
        self.outbox = Outbox(boot, redis, self.documents, departures)
        self.rates = Rates(redis, Complaints(log.get_logger()), inbox.throttles, chains, threads)
        self.outcomes = OutcomeHandler(
            self.outbox, departures, status, settings, self.writers, self.rates, self.queue, meters
        )
        self.notifiers = Notifiers(
            routes.notifications,
            redis,
            self.held,
            self.runner,
            inbox,
            self.documents,
            self.outcomes,
            settings.tick_interval_ms / 1000,
        )
        self.intake = Intake(
            boot,
            routes,
            redis,
            self.pool,
            self.held,
            self.documents,
            self.outcomes,
            self.rates,
            self.story_writer,
            self.notifiers,
            meters,
        )
