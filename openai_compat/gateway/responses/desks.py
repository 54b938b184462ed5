"""The desks of responses and conversations, which share what is kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from openai_compat.config import Config
from openai_compat.gateway.asking import Asking
from openai_compat.gateway.chats import Chats
from openai_compat.gateway.counting import Counter
from openai_compat.gateway.intake import Intake
from openai_compat.gateway.metering.ledger import Ledger
from openai_compat.gateway.responses.background import Still
from openai_compat.gateway.responses.conversations import ConversationDesk
from openai_compat.gateway.responses.desk import ResponseDesk
from openai_compat.gateway.responses.orders import FindModel
from openai_compat.gateway.responses.shelf import Shelf
from openai_compat.gateway.store.storage import Storage


class Desks:
    """They last as long as the process; ``renewal`` lets them take part in a reload."""

    def __init__(
        self, config: Config, storage: Storage, ledger: Ledger, asking: Asking, find_model: FindModel, still: Still
    ) -> None:
        self._shelf, self.intake = Shelf(config, storage), Intake(config, ledger)
        chats, counter = Chats(asking), Counter(asking)
        self.responses = ResponseDesk(config, self._shelf, self.intake, chats, counter, find_model, still)
        self.conversations = ConversationDesk(self._shelf, self.intake)

    async def start(self) -> None:
        await self.responses.start()

    async def close(self) -> None:
        """Lets what runs in the background finish within the grace."""
        await self.responses.close()

    def renewal(self, config: Config) -> Callable[[], None]:
        """What puts another configuration in force."""
        return partial(self._renew, config)

    def _renew(self, config: Config) -> None:
        self._shelf.renew(config)
        self.intake.renew(config)
