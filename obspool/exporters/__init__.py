"""What carries snapshots out of the process: the table of metrics, the collector, /metrics.

`import obspool` loads nothing of this package; a pool imports `obspool.exporters.server` when
metrics were asked for, and only then prometheus_client is paid for.
"""
