"""Commands for optional features: enable, disable."""

from typing import Annotated

import typer

from memctl.cli.options import GlobalOptions, LockOptions
from memctl.cli.session import alone_with_database, show_result
from memctl.storage.sqlite import features
from memctl.storage.sqlite.features import Feature
from memctl.storage.sqlite.migrations import require_current

FeatureArgument = Annotated[Feature, typer.Argument(metavar="FEATURE")]


def enable(call: GlobalOptions, lock: LockOptions, feature: FeatureArgument) -> None:
    """Enable a feature for all clients, such as archiving what they delete or overwrite.

    access-boost: each access adds 0.1 to the importance, up to 10, and the next decay charges the
    idle time before it. access-counting: accesses are counted per day. archive-on-delete: memories
    that any client deletes are archived. archive-on-replace: versions that any client overwrites
    are archived.
    """
    with alone_with_database(call, lock, job="enable") as db:
        require_current(db)
        changed = features.enable(db, feature, now=call.moment)
    show_result(
        call,
        {"feature": feature, "enabled": True, "changed": changed},
        f"enable: {feature} {'is now' if changed else 'was already'} enabled",
    )


def disable(call: GlobalOptions, lock: LockOptions, feature: FeatureArgument) -> None:
    """Disable a feature; its past effects remain."""
    with alone_with_database(call, lock, job="disable") as db:
        require_current(db)
        changed = features.disable(db, feature)
    show_result(
        call,
        {"feature": feature, "enabled": False, "changed": changed},
        f"disable: {feature} {'is now' if changed else 'was already'} disabled",
    )
