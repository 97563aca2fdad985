"""The agent library: an agent with handlers in Python."""

from __future__ import annotations

from distributor.agent.agent import Agent
from distributor.agent.command_context import (
    BlockingContext,
    BlockingHandler,
    CommandContext,
    CommandFailed,
    CommandStopped,
    Completed,
    Handler,
)
from distributor.agent.handlers.exec_program import ExecPolicy
from distributor.agent.identity_files import IdentityFiles
from distributor.agent.journal_policy import JournalPolicy, JournalSync, Orphans
from distributor.agent.vetting import SignaturePolicy
from distributor.identity.signatures import load_trusted_signers
from distributor.identity.signer_files import SignerFiles
from distributor.wire.compression import Compression
from distributor.wire.credentials import ClientCredentials

__all__ = [
    "Agent",
    "BlockingContext",
    "BlockingHandler",
    "ClientCredentials",
    "CommandContext",
    "CommandFailed",
    "CommandStopped",
    "Completed",
    "Compression",
    "ExecPolicy",
    "Handler",
    "IdentityFiles",
    "JournalPolicy",
    "JournalSync",
    "Orphans",
    "SignaturePolicy",
    "SignerFiles",
    "load_trusted_signers",
]
