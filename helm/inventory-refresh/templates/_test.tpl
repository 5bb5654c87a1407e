{{/* What the pods of helm test share: dict "root" $ "what" NAME. They stay, so that their logs can be read; the next test
     takes their place. */}}
{{- define "inventory-refresh.testMetadata" -}}
{{- $hook := dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation" -}}
{{ include "inventory-refresh.metadata" (dict
      "root" .root
      "name" (printf "%s-test-%s" (include "inventory-refresh.fullname" .root) .what)
      "labels" (dict "app.kubernetes.io/component" "test")
      "annotations" $hook
   ) }}
{{- end }}

{{- define "inventory-refresh.testResources" -}}
requests:
  cpu: 50m
  memory: 256Mi
limits:
  memory: 512Mi
{{- end }}
