"""All that is public; ``import coordinator`` loads it when the first name is asked for."""

from coordinator.aio import AsyncCoordinator
from coordinator.awaiting import (
    AsyncChildrenView,
    AsyncEphemeral,
    AsyncEventStream,
    AsyncTransaction,
    AsyncZnodeView,
    HandlerTask,
)
from coordinator.awaiting_locks import (
    AsyncCandidacy,
    AsyncLatch,
    AsyncLeaderView,
    AsyncLease,
    AsyncLock,
    AsyncLoss,
)
from coordinator.blocking import ChildrenView, Ephemeral, EventStream, HandlerThread, Transaction, ZnodeView
from coordinator.blocking_locks import Candidacy, Latch, LeaderView, Lease, Lock, Loss
from coordinator.client import Coordinator
from coordinator.engine.handler import KazooHandler
from coordinator.errors import *  # noqa: F403 -- the whole tree is public
from coordinator.errors import __all__ as _errors
from coordinator.events import *  # noqa: F403 -- every kind is public
from coordinator.events import __all__ as _events
from coordinator.models import ACL, Contender, Phase, SessionInfo, Stat, Stats, Znode
from coordinator.security import TLS, Auth, Sasl
from coordinator.settings import Settings

__all__ = [
    "ACL",
    "TLS",
    "AsyncCandidacy",
    "AsyncChildrenView",
    "AsyncCoordinator",
    "AsyncEphemeral",
    "AsyncEventStream",
    "AsyncLatch",
    "AsyncLeaderView",
    "AsyncLease",
    "AsyncLock",
    "AsyncLoss",
    "AsyncTransaction",
    "AsyncZnodeView",
    "Auth",
    "Candidacy",
    "ChildrenView",
    "Contender",
    "Coordinator",
    "Ephemeral",
    "EventStream",
    "HandlerTask",
    "HandlerThread",
    "KazooHandler",
    "Latch",
    "LeaderView",
    "Lease",
    "Lock",
    "Loss",
    "Phase",
    "Sasl",
    "SessionInfo",
    "Settings",
    "Stat",
    "Stats",
    "Transaction",
    "Znode",
    "ZnodeView",
]
__all__ += _errors
__all__ += _events
