"""The WebSocket bridge: what dashboards connect to. docs/dashboards.md has the protocol.

It holds no truth: it reads events, states and output from the store and calls the server for every change, so any
number of bridges run side by side. `app` has the routes, `dashboard_session` one connection; `event_hub`,
`agent_watch` and `output_pump` feed all of them.
"""
