"""What operators see of a process: health, metrics, log level over HTTP, and systemd's status line."""
