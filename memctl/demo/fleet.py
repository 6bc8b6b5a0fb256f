"""The agents of the demonstration: their tasks, and the memories that they write and read.

They use the service's own statements. The same seed always produces the same sequence.
"""

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from memctl.storage.memory import MemoryType, NewMemory, to_expiry, to_json
from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.memories import count_access, replace_memory
from memctl.usual_memories import CONTEXT_IMPORTANCE, CONTEXT_LASTS

SEED = 2026


class Lesson(NamedTuple):
    """A memory without an expiry; `{part}` is replaced by a part of the product."""

    type: MemoryType
    key: str
    value: str
    importance: float


class Agent(NamedTuple):
    """An agent, which works from its first day to its last, counted from the beginning."""

    name: str
    tasks_a_day: int
    lessons: list[Lesson]  # specific to it; further ones are common to all agents
    first_day: int = 0
    last_day: int = 10_000


FREEZE = Lesson(
    "learning",
    "freeze:friday",
    "no deployments from Friday 14:00 on: nobody is there to take them back",
    9,
)
FORGOTTEN = ("deploy_agent", FREEZE)  # by mistake, in the story

FLEET = [
    Agent(
        "build_agent",
        4,
        [
            Lesson("learning", "cache:toolchain", "keyed by the lock file a build takes 4 min", 8),
            Lesson("preference", "jobs", "two parallel jobs; three run out of memory", 6),
            Lesson(
                "error_pattern",
                "ENOSPC:/tmp",
                '{"description": "a build ends with ENOSPC", "fix": "empty the layer cache"}',
                8,
            ),
            Lesson("success_pattern", "split:tests", "four shards by duration halve the wait", 8),
        ],
    ),
    Agent(
        "qa_agent",
        4,
        [
            Lesson(
                "error_pattern",
                "flaky:checkout-e2e",
                '{"description": "the e2e test of checkout fails at first",'
                ' "fix": "wait for the price, not for the page"}',
                9,
            ),
            Lesson("preference", "style:tests", "arrange, act, assert; one reason to fail", 7),
            Lesson("learning", "seed:fixtures", "fixtures need --seed, or the order differs", 8),
        ],
    ),
    Agent(
        "review_agent",
        3,
        [
            Lesson("preference", "tone", "ask before asserting; praise what is simpler now", 6),
            Lesson("learning", "sql:n+1", "loops around queries hide in serializers", 8),
            Lesson("success_pattern", "small:diffs", "below 300 lines a review takes an hour", 8),
        ],
    ),
    Agent(
        "deploy_agent",
        2,
        [
            FREEZE,
            Lesson("success_pattern", "canary:5%", "ten minutes at 5 % showed all bad deploys", 9),
            Lesson(
                "error_pattern",
                "timeout:migration",
                '{"description": "a migration waits for a lock and times out",'
                ' "fix": "run it before the deploy, with a short lock timeout"}',
                8,
            ),
        ],
    ),
    Agent(
        "docs_agent",
        2,
        [
            Lesson("preference", "voice", "short sentences, present tense, no 'simply'", 7),
            Lesson("learning", "links:relative", "absolute links break in the offline copy", 7),
        ],
    ),
    Agent(
        "port_agent",  # ends after two months; its memories are not read any more
        3,
        [
            Lesson("learning", "api:v1", "version 1 sends amounts as text, version 2 as cents", 8),
            Lesson("learning", "api:dates", "version 1 has local times without an offset", 7),
        ],
        last_day=60,
    ),
    Agent(
        "security_agent",  # joins in the last month
        3,
        [
            Lesson("learning", "tokens:scope", "tokens of CI must not be able to publish", 9),
            Lesson("error_pattern", "audit:false-alarm", "test keys in fixtures are no leak", 8),
        ],
        first_day=98,
    ),
]

PARTS = (
    *("auth", "billing", "cart", "catalog", "checkout", "exports", "gateway", "invoices"),
    *("mailer", "payments", "profiles", "reports", "search", "sessions", "uploads", "webhooks"),
)

# Lessons for any agent in any part of the product.
COMMON = [
    Lesson("learning", "owner:{part}", "changes of {part} need a second reviewer", 4),
    Lesson("learning", "limits:{part}", "{part} is throttled above 50 requests a second", 5),
    Lesson("learning", "module:{part}", "the entry point of {part} is its handler module", 3),
    Lesson("error_pattern", "timeout:{part}", "{part} times out when its queue is cold", 8),
    Lesson("error_pattern", "null:{part}", "{part} returns null for accounts without a plan", 8.5),
    Lesson("success_pattern", "retry:{part}", "one retry after 2 s is enough for {part}", 6),
    Lesson("success_pattern", "flag:{part}", "a flag made the change of {part} reversible", 6.5),
    Lesson("preference", "log:{part}", "log the request id in {part}, never the body", 4),
]

TASKS = ("fix", "extend", "check", "tidy up", "measure", "document")


class Fleet:
    """The agents at work on a database, day by day."""

    def __init__(self, db: Connection, begin: datetime) -> None:
        self._db = db
        self._begin = begin
        self._chance = random.Random(SEED)  # noqa: S311  nothing here is secret
        self._task = 4000
        self._known: dict[str, list[str]] = {agent.name: [] for agent in FLEET}  # ids
        self._to_learn = {agent.name: self._curriculum(agent) for agent in FLEET}

    def work(self, today: datetime, *, until: datetime) -> Counter[str]:
        """Simulate the work of the agents on a day, up to a moment.

        Returns the numbers of memories `written` and of `reads`.
        """
        self._done: Counter[str] = Counter()
        day = (today - self._begin).days
        for agent in FLEET:
            if agent.first_day <= day <= agent.last_day:
                self._work(agent, today, until)
        return self._done

    def _work(self, agent: Agent, today: datetime, until: datetime) -> None:
        tasks = self._chance.randint(1, agent.tasks_a_day + 1)
        if today.weekday() >= 5:
            tasks = 1 if self._chance.random() < 0.3 else 0
        hours = sorted(self._chance.uniform(7, 18) for _ in range(tasks))
        for moment in (today + timedelta(seconds=int(hour * 3600)) for hour in hours):
            if moment >= until:
                return
            self._begin_task(agent, moment)
            for _ in range(self._chance.randint(2, 5)):
                self._read(agent, moment + timedelta(seconds=self._chance.randint(5, 900)))
            much_is_new = len(self._known[agent.name]) < 14
            if self._chance.random() < (0.9 if much_is_new else 0.25):
                self._learn(agent, moment + timedelta(minutes=20))

    def _begin_task(self, agent: Agent, at: datetime) -> None:
        self._task += 1
        part = self._chance.choice(PARTS)
        context = {
            "goal": f"{self._chance.choice(TASKS)} {part}",
            "branch": f"{agent.name.removesuffix('_agent')}/{self._task}-{part}",
        }
        lasts = timedelta(days=7) if self._chance.random() < 0.15 else CONTEXT_LASTS
        name = f"task:{self._task}"
        lesson = Lesson("context", name, to_json(context), CONTEXT_IMPORTANCE)
        self._remember(agent, lesson, at, expires_in=lasts)

    def _learn(self, agent: Agent, at: datetime) -> None:
        lesson = next(self._to_learn[agent.name], None)
        if lesson is not None:
            self._known[agent.name].append(self._remember(agent, lesson, at))

    def _read(self, agent: Agent, at: datetime) -> None:
        """Read a recent memory or one of a few favourites; others are rarely read."""
        known = self._known[agent.name]
        if known:
            favourites = known[::5] if self._chance.random() < 0.6 else known[-12:]
            read = self._chance.choice(favourites)
            self._done["reads"] += count_access(self._db, read, now=at)

    def _remember(
        self, agent: Agent, lesson: Lesson, at: datetime, *, expires_in: timedelta | None = None
    ) -> str:
        id = str(UUID(int=self._chance.getrandbits(128), version=4))
        memory = NewMemory(
            id=id,
            agent=agent.name,
            type=lesson.type,
            key=lesson.key,
            value=lesson.value,
            metadata=None,
            importance=lesson.importance,
            expires_at=to_expiry(expires_in, now=at),
        )
        replace_memory(self._db, memory, now=at)
        self._done["written"] += 1
        return id

    def _curriculum(self, agent: Agent) -> Iterator[Lesson]:
        common = [
            lesson._replace(key=lesson.key.format(part=part), value=lesson.value.format(part=part))
            for lesson in COMMON
            for part in PARTS
        ]
        self._chance.shuffle(common)
        for number, lesson in enumerate(agent.lessons):
            common.insert(5 * number, lesson)
        return iter(common)
