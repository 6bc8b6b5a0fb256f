"""The command for one memory: explain."""

from dataclasses import asdict
from typing import Annotated

import typer

from memctl.cli.options import AgentArgument, GlobalOptions
from memctl.errors import UsageError
from memctl.output.tables import Output, show_facts, show_records
from memctl.output.terminal import show_document
from memctl.storage.sqlite.database import open_database
from memctl.storage.sqlite.migrations import require_current

HISTORY = {"event_id": 0, "at": 0, "event": 0, "memory_id": 2, "run_id": 1, "detail": 1}


def explain(
    call: GlobalOptions,
    agent: AgentArgument,
    memory: Annotated[list[str], typer.Argument(metavar="ID | TYPE KEY")],
) -> None:
    """Explain a memory: its state, its history with reasons, and what will happen to it.

    Predictions assume the current policies, and that the memory is not accessed again.
    """
    from memctl.insight.explain import Policies
    from memctl.insight.explain import explain as explain_memory
    from memctl.output.explain import explanation_facts

    if len(memory) > 2:
        raise UsageError("too many arguments", "usage: memctl explain AGENT {ID | TYPE KEY}")
    policies = Policies(
        call.settings.decay, call.settings.prune, call.settings.promote, call.settings.quota
    )
    with open_database(call.file, read_only=True) as db:
        require_current(db)
        found = explain_memory(db, agent, memory, policies, now=call.moment)
    history = [event._asdict() for event in found.history]
    if call.json:
        holds = [hold._asdict() for hold in found.holds]
        show_document({**asdict(found), "history": history, "holds": holds})
        return
    show_facts(explanation_facts(found, policies.of(found.agent_id, found.type)).items())
    show_records(history, HISTORY, Output("table", call.moment))
