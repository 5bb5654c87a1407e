{{/* The endpoint of the ServiceMonitor or PodMonitor, which have the same values. */}}
{{- define "inventory-refresh.scrape" -}}
- port: http
  path: /metrics
  {{- if .honorLabels }}
  honorLabels: true
  {{- end }}
  {{- with .interval }}
  interval: {{ . }}
  {{- end }}
  {{- with .scrapeTimeout }}
  scrapeTimeout: {{ . }}
  {{- end }}
  {{- with .relabelings }}
  relabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .metricRelabelings }}
  metricRelabelings:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
