"""One MLflow run of the tree: made once, described once, below its parent, with the status it has."""

from __future__ import annotations

from collections.abc import Mapping

from raysched.records.files import canonical, sha256_bytes
from raysched.tracking.cursor import Cursor, Cursors
from raysched.tracking.mlflow_store import PARENT, Status, Store


class Nodes:
    """Makes and closes MLflow runs of the sweep `uid`; every step it takes is remembered by a cursor."""

    def __init__(self, store: Store, cursors: Cursors) -> None:
        self.store, self.cursors = store, cursors
        self.uid = ""
        self.common_tags: dict[str, str] = {}

    def create(
        self,
        cursor: Cursor,
        *,
        name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        parent: str | None,
        start_ms: int,
    ) -> str:
        """The node's MLflow run, described and below its parent."""
        if cursor.mlflow_id is None:
            found = self.store.find(cursor.key, self.uid)
            if found and found[1]:
                self.store.delete(found[0])  # it holds metrics of which no cursor knows
            everything = {**self.common_tags, **tags}
            cursor.mlflow_id = self.store.ensure_run(
                cursor.key, self.uid, name=name, tags=everything, parent=parent, start_ms=start_ms
            )
            cursor.parent = parent
            cursor.status = "" if found else "RUNNING"  # what an adopted one has is not known
            self.cursors.save(cursor)
        if not cursor.described:
            self.store.add_params(cursor.mlflow_id, params)
            cursor.described, cursor.params = True, described(params)
            self.cursors.save(cursor)
        if parent is not None and cursor.parent != parent:
            self.store.set_tags(cursor.mlflow_id, {PARENT: parent})
            cursor.parent = parent
            self.cursors.save(cursor)
        return cursor.mlflow_id

    def drop(self, cursor: Cursor) -> None:
        """Delete the node's MLflow run; the next `create` makes it anew."""
        if cursor.mlflow_id is not None:
            self.store.delete(cursor.mlflow_id)
        cursor.reset()
        self.cursors.save(cursor)

    def set_status(self, cursor: Cursor, status: Status, end_ms: int | None = None) -> None:
        if cursor.status == status or cursor.mlflow_id is None:
            return
        if status != "RUNNING":
            self.store.keep_one(cursor.key, self.uid, cursor.mlflow_id)
        self.store.set_status(cursor.mlflow_id, status, end_ms)
        self.store.set_tags(cursor.mlflow_id, {"raysched.status": status.lower()})
        cursor.status = status
        self.cursors.save(cursor)


def described(params: Mapping[str, str]) -> str:
    """What tells other parameters from these."""
    return sha256_bytes(canonical(params).encode())
