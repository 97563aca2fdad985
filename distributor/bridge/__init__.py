"""The WebSocket bridge that serves dashboards. docs/dashboards.md describes the protocol.

A bridge is stateless: it reads events, states and output from the store and calls the server for every change, so any
number of bridges can run side by side. `app` defines the routes, `dashboard_session` serves one connection, and
`event_hub`, `agent_watch` and `output_pump` feed all connections.
"""
