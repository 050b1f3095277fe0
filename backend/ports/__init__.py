"""The ports: what the components of the backend need from the outside world.

Components meet only here; adapters implement them; `wiring` chooses them by URL.
Every adapter translates its client's errors into `extauthz.core.errors`:
`Retryable` (it is away), `Busy` (it is full), `Invalid` (it refused the data).
"""
