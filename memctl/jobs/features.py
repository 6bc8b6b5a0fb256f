"""Enable and disable the opt-in features. The caller holds memctl's lock."""

from datetime import datetime

from memctl.storage.sqlite.database import Connection
from memctl.storage.sqlite.features import Feature, feature_status, install_feature, remove_feature
from memctl.storage.times import to_text


def enable(db: Connection, feature: Feature, *, now: datetime) -> bool:
    """Enable a feature, or renew its trigger; return whether anything had to be done.

    A feature with an outdated trigger keeps the time since which it has been enabled.
    """
    status = feature_status(db, feature)
    if status.state == "on":
        return False
    since = status.since if status.state == "outdated" else None
    install_feature(db, feature, since=since or to_text(now))
    return True


def disable(db: Connection, feature: Feature) -> bool:
    """Disable a feature; return whether it was enabled."""
    return remove_feature(db, feature)
