"""Whatever happens after an erasure, no byte of what was erased is in any file of the database.

Each round plants texts, keeps an old backup and an old export elsewhere, erases, and then takes
random steps: jobs, restores, imports of the old export, going back to the old backup, rollbacks and
migrations, writes of the service, further erasures. After each step, every file is searched.
Without tombstones, the texts come back: that shows that the search would find them.
"""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.program import Answer, Memctl
from tests.support.service import Service

ROUNDS = 4
CAMPAIGN_ROUNDS = int(os.environ.get("MEMCTL_ERASURE_ROUNDS", "1000"))
STEPS = 13
TEXTS = 4
JOBS = ("cleanup", "decay", "promote", "snapshot", "prune", "run")
FEATURES = ("archive-on-delete", "archive-on-replace", "access-boost", "access-counting")

CREATE_KNOWLEDGE = """
    CREATE TABLE knowledge_entries (
        id TEXT PRIMARY KEY,
        type TEXT NOT NULL CHECK (type IN ('gotcha', 'pattern', 'decision')),
        content TEXT NOT NULL, file_patterns TEXT, action_types TEXT, tags TEXT,
        confidence REAL NOT NULL DEFAULT 0.5 CHECK (confidence BETWEEN 0 AND 1),
        occurrences INTEGER DEFAULT 1, source_execution_id TEXT, source_task_id TEXT,
        source_agent_id TEXT NOT NULL, created_at TEXT DEFAULT (datetime('now')),
        updated_at TEXT DEFAULT (datetime('now')), last_used_at TEXT,
        superseded_by TEXT REFERENCES knowledge_entries (id)
    )
"""


class Planted:
    """A text that is planted in one memory, in some of its versions."""

    def __init__(self, number: int, chance: random.Random) -> None:
        self.text = "".join(chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=32))
        self.agent = chance.choice(["a", "b"])
        self.type = chance.choice(["learning", "error_pattern", "context"])
        in_key = chance.random() < 0.2
        self.key = f"key {self.text}" if in_key else f"key {number}"
        self.values = [
            chance.choice(
                [
                    f"{self.text} {version}",
                    json.dumps({"description": f"use {self.text} ({version})"}),
                    f"{'x' * chance.randrange(60_000)}{self.text}{version}",
                ]
            )
            for version in range(chance.randrange(1, 4))
        ]
        self.metadata = json.dumps({"token": self.text}) if chance.random() < 0.3 else None

    @property
    def name(self) -> tuple[str, str, str]:
        """The agent, the type and the key."""
        return self.agent, self.type, self.key


class Round:
    """One database with planted texts, and what is kept elsewhere."""

    def __init__(self, folder: Path, seed: int, *, tombstones: bool = True) -> None:
        self.chance = random.Random(seed)
        self.folder = folder
        self.path = folder / "beside" / "harness.db"
        self.elsewhere = folder / "elsewhere"
        for directory in (self.path.parent, self.elsewhere):
            directory.mkdir(parents=True)
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.service = Service(self.path)
        self.planted = [Planted(number, self.chance) for number in range(TEXTS)]
        self.erased: list[Planted] = []
        self.tombstones = tombstones
        self.log: list[str] = []

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> Answer:
        """Run a command some time later."""
        self.now += timedelta(minutes=self.chance.randrange(1, 4000))
        self.log.append(" ".join(word[-80:] for word in words))
        answer = Memctl(self.path, self.now)(*words)
        assert answer.exit_code in codes, (self.log, answer)
        return answer

    def prepare(self) -> None:
        """Write memories, let jobs act on them, and keep an old backup and an old export."""
        chance, service = self.chance, self.service
        if chance.random() < 0.5:
            service.db.execute(CREATE_KNOWLEDGE)
        service.db.execute(f"PRAGMA secure_delete = {chance.choice(['ON', 'OFF'])}")
        self.run("migrate")
        for feature in FEATURES:
            if chance.random() < 0.5:
                self.run("enable", feature)
        for planted in self.planted:
            for value in planted.values:
                if chance.random() < 0.3:
                    self.run("remember", *planted.name, value)
                else:
                    service.remember(
                        *planted.name,
                        value,
                        metadata=planted.metadata,
                        importance=chance.choice([1, 5, 9]),
                        expires_at=chance.choice([None, None, "2020-01-01 00:00:00"]),
                    )
                if chance.random() < 0.3:
                    self.run("cleanup")
                if chance.random() < 0.3:
                    self.run("forget", *planted.name, codes=(0, 1))
        self.write()
        service.db.execute(
            "UPDATE agent_memory SET created_at = datetime('now', '-40 days'), access_count = 9"
            " WHERE rowid % 2"
        )
        self.run("promote")
        self.run("backup", "-o", str(self.elsewhere / "old.db"))
        self.run("export", "--all", "-o", str(self.elsewhere / "old.json"))
        if chance.random() < 0.5:
            self.run("backup")

    def write(self) -> None:
        """Write, read and delete memories as the service does, none with a planted text."""
        for number in range(self.chance.randrange(1, 6)):
            name = (self.chance.choice(["a", "b"]), "learning", f"other {number}")
            self.service.remember(*name, f"value {self.chance.random()}", importance=7)
            self.service.recall(*name)
            if self.chance.random() < 0.3:
                self.service.forget(*name)

    def erase(self) -> None:
        """Erase the memory of the next text, or redact the text, also in all backups beside."""
        if not self.planted:
            return
        planted = self.planted[0]
        # After a rollback of step 002, the database has another identity than its older copies.
        copies = ["--backups"]
        for manifest in self.path.parent.glob("*.json"):
            copies += ["--backup", str(manifest.with_suffix(""))]
        by_name = (planted.agent, "--type", planted.type, "--key", planted.key)
        how = self.chance.choice(["name", "text", "redact"])
        done = False
        if how == "redact" and planted.text not in planted.key:
            answer = self.run(
                "redact", *by_name, "--match", planted.text, "--yes", codes=(0, 1)
            )  # 1: no version is left
            done = answer.exit_code == 0
        if how == "name":
            answer = self.run("erase", *by_name, *copies, "--yes", codes=(0, 1))
            done = answer.exit_code == 0
        answer = self.run(
            "erase",
            "--match",
            planted.text,
            "--all-agents",
            *copies,
            "--yes",
            "--json",
            codes=(0, 1),
        )
        self.planted.remove(planted)
        # What the database no longer has gets no tombstone, and may come back.
        if done or (answer.exit_code == 0 and answer.json["erased"]):
            self.erased.append(planted)
        if not self.tombstones:
            self.service.db.execute("DELETE FROM memory_tombstones")

    def step(self) -> None:
        """Do something at random."""
        chance = self.chance
        kinds = {
            self.do_a_job: 3,
            self.restore: 2,
            self.import_old: 2,
            self.go_back: 2,
            self.change_schema: 2,
            self.write: 2,
            self.erase: 1,
            self.back_up: 1,
            self.archive: 1,
            self.compact: 1,
        }
        chance.choices([*kinds], [*kinds.values()])[0]()

    def do_a_job(self) -> None:
        self.run(self.chance.choice(JOBS), codes=(0, 3))

    def restore(self) -> None:
        conflict = self.chance.choice(["skip", "replace"])
        self.run(
            "restore",
            self.chance.choice(["a", "b"]),
            "--reason",
            self.chance.choice(["expired", "forgotten", "replaced", "deleted", "imported"]),
            "--since",
            "2020-01-01",
            "--on-conflict",
            conflict,
            codes=(0, 1, 3),
        )

    def import_old(self) -> None:
        conflict = self.chance.choice(["skip", "replace", "newest"])
        self.run(
            "import",
            "--all",
            str(self.elsewhere / "old.json"),
            "--on-conflict",
            conflict,
            "--allow-invalid",
            codes=(0, 3, 13),
        )

    def go_back(self) -> None:
        self.run("backup", "--restore", str(self.elsewhere / "old.db"))

    def change_schema(self) -> None:
        to = self.chance.choice(["2", "2", "1"])
        self.run("rollback", "--to", to, "--yes")
        self.require_erased()
        self.write()
        if self.chance.random() < 0.3:
            self.go_back()
            self.require_erased()
        self.run("migrate")

    def back_up(self) -> None:
        self.run("backup", *self.chance.choice([(), ("--keep", "2")]))

    def compact(self) -> None:
        self.run("compact", "--force", codes=(0, 3))

    def archive(self) -> None:
        self.run("forget", "a", "learning", codes=(0, 1))

    def found(self) -> list[str]:
        """Return the names of the files that contain an erased text.

        They are read by another process: one that closes a file loses the locks of its SQLite.
        """
        state = Memctl(self.path).state_home
        places = [place for place in (self.path.parent, state) if place.exists()]
        patterns = [word for planted in self.erased for word in ("-e", planted.text)]
        if not patterns:
            return []
        ran = subprocess.run(
            ["grep", "--recursive", "--files-with-matches", "--text", "-F", *patterns, *places],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.stderr == ""
        return sorted(Path(line).name for line in ran.stdout.splitlines())

    def require_erased(self) -> None:
        """Assert that no file contains an erased text."""
        assert self.found() == [], self.log


@contextmanager
def a_round(folder: Path, seed: int, *, tombstones: bool = True) -> Iterator[Round]:
    """Prepare a round in a folder of its own, which is removed afterwards."""
    place = folder / f"round-{seed}"
    begun = Round(place, seed, tombstones=tombstones)
    try:
        begun.prepare()
        yield begun
    finally:
        begun.service.close()
        shutil.rmtree(place)


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(ROUNDS), id="some"),
        pytest.param(
            range(1000, 1000 + CAMPAIGN_ROUNDS), id="a thousand", marks=pytest.mark.campaign
        ),
    ],
)
def test_no_file_ever_contains_what_was_erased(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        with a_round(tmp_path, seed) as begun:
            begun.erase()
            begun.require_erased()
            for _ in range(STEPS):
                begun.step()
                begun.require_erased()


def test_without_tombstones_the_texts_come_back(tmp_path: Path) -> None:
    with a_round(tmp_path, 1, tombstones=False) as begun:
        begun.erase()
        erased = begun.found()
        begun.import_old()
        imported = begun.found()
        begun.go_back()
        restored = begun.found()

    assert erased == []
    assert imported != []
    assert restored != []
