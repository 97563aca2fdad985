"""Puts objects together and runs them: server, bridge, and both with an agent for development."""
